"""Model growth: most tokens in a small model that is made larger twice, at equal training FLOPs."""

from dataclasses import replace

from thalweg.atlas.kit import Markov
from thalweg.atlas.runs import final, history
from thalweg.atlas.verdict import at_most, every
from thalweg.core.claim import Arm, Claim, Results, Size, Verdict
from thalweg.core.grow import Grow
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn
from thalweg.core.protocols import Context, Schedule
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.time import Time, share, steps
from thalweg.core.weigh import TokenMean
from thalweg.core.world import World
from thalweg.evaluate import held_out_loss
from thalweg.models import Mup, Transformer, larger
from thalweg.monitors import HeldOut
from thalweg.objectives import NextToken
from thalweg.optim import AdamW
from thalweg.schedules import Linear, Wsd
from thalweg.schedules.clock import Value

__all__ = ["claim"]

TEXT = Markov()
PEAK = 5e-3
"""Rate at width 32; muP carries it to the larger models, as the paper's rates were."""
SMALL = Transformer(
    vocabulary=64, width=32, layers=2, heads=2, positions=64, tied=True, mup=Mup(base_width=32)
)
DEEP = larger(SMALL, layers=4)
WIDE = larger(DEEP, width=64)
SHARES = (0.79, 0.13, 0.08)
"""Tokens of the three stages: 245, 40 and 27 of 311 billion (model card of FLM-101B)."""
WORSE = 0.01
"""Nats per token by which growing may be worse and still count as not worse."""


def phase(number: int, spec: Transformer, count: int, rate: Schedule[Value]) -> Phase:
    """Return a stage of a run."""
    learn = Learn("policy", NextToken(), AdamW(lr=rate))
    do = (Grow("policy", spec), learn) if number else (learn,)
    heldout = (HeldOut({"text": TEXT.held_out}, every=share(1.0)),)
    return Phase(count, TEXT, do, rows=16, monitors=heldout, name=f"stage {number}")


def runs(total: int) -> tuple[Recipe, Recipe]:
    """Return the run that grows and one of the final model alone, of the same training FLOPs.

    Both decay over the same FLOPs: the last stage of the one.
    """
    one, two, three = (max(1, round(total * part)) for part in SHARES)
    warm = Wsd(PEAK, warmup=steps(min(40, one - 1)), decay=steps(0))
    stages = (
        phase(0, SMALL, one, warm),
        phase(1, DEEP, two, Wsd(PEAK, warmup=steps(0), decay=steps(0))),
        phase(2, WIDE, three, Linear(PEAK, 0.0)),
    )
    small, deep, wide = (spec.build(0).flops(64) for spec in (SMALL, DEEP, WIDE))
    alone = round((one * small + two * deep) / wide) + three
    rate = Wsd(PEAK, warmup=steps(min(40, alone - three - 1)), decay=steps(three))
    whole = replace(phase(0, WIDE, alone, rate), name="alone")
    return Recipe({"policy": SMALL}, stages), Recipe({"policy": WIDE}, (whole,))


def jump(seed: int, count: int) -> dict[str, float]:
    """Return by how much the held-out loss of a trained model changes when it grows, twice."""
    ctx, optimizer = Context(Time(0, count), seed=seed, rows=16), AdamW(lr=PEAK)
    learner, state = Learner("policy", SMALL.build(seed), World()), TEXT.start(ctx)
    losses = []
    for spec in (SMALL, DEEP, WIDE):
        if spec is not SMALL:
            learner.grow(spec, seed + 1)
            losses.append(held_out_loss(learner, {"text": TEXT.held_out}, ctx, rows=32).loss)
        for _ in range(count):
            batch, state = TEXT.next(state, ctx)
            learner.learn(NextToken(), TokenMean()(batch), optimizer)
        losses.append(held_out_loss(learner, {"text": TEXT.held_out}, ctx, rows=32).loss)
    return {"deeper": abs(losses[1] - losses[0]), "wider": abs(losses[3] - losses[2])}


def arms(size: Size) -> dict[str, Arm]:
    """Return the run that grows, the one that does not, and the jump of the loss at growth."""
    total = size.pick(tiny=15, small=1200)
    grown, alone = runs(total)
    count = size.pick(tiny=1, small=40)
    return {
        "grown": lambda seed: final(history(replace(grown, seed=seed))),
        "alone": lambda seed: final(history(replace(alone, seed=seed))),
        "jump": lambda seed: jump(seed, count),
    }


def judge(results: Results) -> Verdict:
    """The loss does not move at growth, and at equal FLOPs growing is not worse."""
    gap = results.of("grown", "heldout/loss") - results.of("alone", "heldout/loss")
    return every(
        at_most(results.of("jump", "deeper"), 1e-4, "change of the loss at more depth, nats"),
        at_most(results.of("jump", "wider"), 1e-4, "change of the loss at more width, nats"),
        at_most(gap, WORSE, "grown minus alone at equal FLOPs, nats per token"),
    )


claim = Claim(
    paper="arXiv:2309.03852",
    statement="Growth in depth and width leaves the loss where it is, and a run that spends 79 %, "
    "13 % and 8 % of its tokens in three sizes ends no worse than the largest alone on equal FLOPs",
    arms=arms,
    judge=judge,
    seeds=4,
    deviations="2 x 32 -> 4 x 32 -> 4 x 64 decoders on a toy language instead of 16B -> 51B -> "
    "101B; new weights learn from zero instead of behind a mask that rises; batch and rate are the "
    "same in all stages (muP carries the rate)",
    note="The paper compares cost, not loss: it has no run of the final model alone. The first two "
    "parts hold by construction and test the code, not the paper.",
)
