"""A run whose model, with latent attention, grows twice; by however many processes."""

import sys
from pathlib import Path

from thalweg.core.grow import Grow
from thalweg.core.moves import Learn
from thalweg.core.recipe import Compute, Phase, Recipe, Saves
from thalweg.core.session import Session, resume, train
from thalweg.core.time import steps
from thalweg.data import Corpus
from thalweg.models import Latent, Transformer, larger
from thalweg.objectives import NextToken
from thalweg.optim import AdamW

SMALL = Transformer(
    vocabulary=257, width=16, layers=1, heads=2, positions=16, activation="relu2",
    latent=Latent(rank=6, nope=4, rope=4, value=6),
)  # fmt: skip
DEEP = larger(SMALL, layers=2)


def recipe(store: str, shard: str) -> Recipe:
    learn = Learn("policy", NextToken(), AdamW(lr=3e-3), clip=None)
    wide = larger(DEEP, width=24)
    moves = ((learn,), (Grow("policy", DEEP), learn), (Grow("policy", wide), learn))
    text = Corpus(store, length=16)
    phases = tuple(Phase(2, text, do, rows=4, name=f"{n}") for n, do in enumerate(moves))
    return Recipe(
        {"policy": SMALL}, phases, compute=Compute(shard=shard), saves=Saves(every=steps(1), last=9)
    )


def stop_after(count: int) -> Session:
    left = [count]

    def interrupted() -> bool:
        left[0] -= 1
        return left[0] == 0

    return Session(interrupted=interrupted)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for task in sys.argv[2:]:
        verb, run, shard, stop = task.split(":")
        if verb == "train":
            train(recipe(str(folder / "store"), shard), folder / run, session=stop_after(int(stop)))
        else:
            resume(folder / run)
