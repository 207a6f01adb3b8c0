"""From scores of a few thousand documents to scores of a corpus: a small model that guesses them.

The regressor is a language model whose last hidden states, averaged over a document, go through a
linear layer. `score_learnability` is the whole of LQS on stores: sample, sweep, fit, score. Each of
the three long parts leaves its state in the folder of the scores, so a killed call goes on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.protocols import Loss, ModelSpec
from thalweg.core.rng import rng
from thalweg.core.world import World
from thalweg.data.lqs import learnability, row_loss, standardised
from thalweg.data.score import Measure, Scores, groups, open_scores, score_documents
from thalweg.data.store import Store
from thalweg.errors import DataError, RecipeError
from thalweg.optim import AdamW

__all__ = ["Fitted", "Regressor", "fit_regressor", "predicted", "score_learnability"]


@runtime_checkable
class Encoder(Protocol):
    """A language model that shows its last hidden states."""

    def encode(self, tokens_RT: torch.Tensor) -> torch.Tensor:
        """Return them, [R, T, D]."""
        ...


class Regressor(nn.Module):
    """A number for each row of ids: a linear function of its mean hidden state.

    Args:
        model: A language model with `encode`.
        width: Of its hidden states.
    """

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__()
        if not isinstance(model, Encoder):
            raise RecipeError(
                f"a {type(model).__name__} as regressor",
                expected="a model with encode(tokens) -> hidden states [R, T, D]",
                where="Regressor",
                write="Transformer(...) or Pretrained(...)",
            )
        self.model = model
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids_RT: torch.Tensor) -> torch.Tensor:
        """Return float32 [R]; a negative id is not there."""
        assert isinstance(self.model, Encoder)
        inside_RT = (ids_RT >= 0).float()
        hidden_RTD = self.model.encode(ids_RT.clamp_min(0)).float()
        mean_RD = (hidden_RTD * inside_RT[..., None]).sum(1) / inside_RT.sum(1, keepdim=True)
        values: torch.Tensor = self.head(mean_RD)[:, 0]
        return values


@dataclass(frozen=True)
class _Squared:
    """Weighted squared error."""

    needs: ClassVar[tuple[str, ...]] = ("x", "y", "weight")

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        return Loss((batch["weight"] * (model(batch["x"]) - batch["y"]).square()).sum())


class Fitted(NamedTuple):
    """A regressor and how well it guesses scores that it has not seen."""

    model: Regressor
    correlation: float
    """On the rows held out; NaN if there were none."""


def fit_regressor(
    model: nn.Module,
    width: int,
    ids_NT: torch.Tensor,
    score_N: np.ndarray,
    *,
    epochs: int = 5,
    rows: int = 32,
    lr: float = 1e-3,
    lr_end: float = 1e-6,
    held_out: float = 0.1,
    seed: int = 0,
) -> Fitted:
    """Train a regressor by squared error, the rate falling as a cosine from `lr` to `lr_end`.

    Args:
        model: The encoder; trained along.
        width: Of its hidden states.
        ids_NT: Rows of ids, -1 behind their end.
        score_N: What to guess; see `standardised`.
        epochs: Passes over the rows.
        rows: Of an optimizer step.
        lr: First rate; 1e-3 suits about 1M weights, the paper's 125M had 1e-4.
        lr_end: Last rate.
        held_out: Share of the rows that is kept to judge by.
        seed: Of the order.
    """
    learner = Learner("regressor", Regressor(model, width), World())
    wanted = torch.from_numpy(np.asarray(score_N, np.float32))
    order = rng(seed, "regressor-split").permutation(len(ids_NT))
    kept = int(held_out * len(ids_NT))
    train, judge = order[kept:], order[:kept]
    steps = epochs * -(-len(train) // rows)
    for step in range(steps):
        epoch, place = divmod(step * rows, -(-len(train) // rows) * rows)
        mixed = rng(seed, "regressor", epoch).permutation(train)[place : place + rows]
        rate = lr_end + (lr - lr_end) * 0.5 * (1 + np.cos(np.pi * step / steps))
        weight = torch.full((len(mixed),), 1.0 / len(mixed))
        batch = Batch({"x": ids_NT[mixed], "y": wanted[mixed], "weight": weight})
        learner.learn(_Squared(), batch, AdamW(lr=float(rate)), clip=1.0)
    module = learner.module
    assert isinstance(module, Regressor)
    module.eval()
    if kept < 2:
        return Fitted(module, float("nan"))
    with torch.no_grad():
        guess = torch.cat([module(part) for part in torch.split(ids_NT[judge], 256)])
    found = np.corrcoef(guess.cpu().numpy(), wanted[judge].numpy())[0, 1]
    return Fitted(module, float(found))


def predicted(model: Regressor, *, length: int = 256, tokens: int = 16384) -> Measure:
    """Return the measure of a regressor.

    Args:
        model: What guesses.
        length: Ids of a document that are looked at, from its beginning.
        tokens: Of one forward pass.
    """

    def measure(texts: Sequence[np.ndarray]) -> np.ndarray:
        out = np.zeros(len(texts), np.float32)
        for group in groups(texts, length, tokens):
            with torch.no_grad():
                out[group.which] = model(torch.from_numpy(group.ids)).cpu().numpy()
        return out

    return measure


def score_learnability(
    store: Store,
    target: Store,
    folder: str | Path,
    spec: ModelSpec,
    width: int,
    *,
    column: str = "lqs",
    proxy: int = 2000,
    steps: int = 100,
    rows: int = 16,
    rate: float = 0.008,
    length: int = 256,
    most_targets: int = 64,
    epochs: int = 5,
    lr: float = 1e-3,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Scores:
    """Score every document of a store by learnability for a target (DELT), into a column.

    Args:
        store: The corpus.
        target: Text that the model should become good at; the same tokenizer.
        folder: Of the scores.
        spec: The model that is trained for the sweep and, from its start again, as regressor.
        width: Of its hidden states.
        column: Name of the column.
        proxy: Documents whose score is computed; the rest is guessed.
        steps: Of the proxy run.
        rows: Of each of its steps.
        rate: Of its SGD; a fresh small model wants far more than the authors' 0.008.
        length: Targets of a document that are looked at.
        most_targets: Rows of the target set.
        epochs: Of the regressor.
        lr: Of the regressor.
        seed: Of all draws.
        say: Told what has been done.

    Raises:
        DataError: Stores of different tokenizers, or a folder of another corpus.
    """
    _check_alike(store, target)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    if (place / "scores.json").exists() and column in open_scores(place, store):
        return open_scores(place, store)
    weights, model = place / f"{column}.regressor.safetensors", spec.build(seed)
    if weights.exists():
        regressor = Regressor(model, width)
        regressor.load_state_dict(load_file(weights))
    else:
        theta = {name: value.detach() for name, value in model.named_parameters()}
        ids = _sample(store, "proxy", proxy, length, seed)
        batches = _sample(store, "steps", steps * rows, length, seed).chunk(steps)
        found = learnability(
            row_loss(model), theta, ids, batches, _sample(target, "target", most_targets, length,
            seed), rate=rate, every=max(1, steps // 10), keep=place / f"{column}.sweep.npz",
            progress=lambda done, total: say(f"{column}: visit {done} of {total}"),
        )  # fmt: skip
        fitted = fit_regressor(
            spec.build(seed),
            width,
            ids[:, :-1],
            standardised(found),
            epochs=epochs,
            lr=lr,
            seed=seed,
        )
        regressor = fitted.model
        say(f"{column}: the regressor's correlation with held-out scores: {fitted.correlation:.2f}")
        save_file(regressor.state_dict(), weights)
    measure = predicted(regressor.eval(), length=length)
    return score_documents(store, place, column, measure)


def _sample(store: Store, what: str, count: int, length: int, seed: int) -> torch.Tensor:
    """Return the beginnings of documents drawn at random, int64 [count, length + 1]."""
    draw, documents = rng(seed, "lqs", what), len(store.documents) - 1
    chosen = draw.choice(documents, count, replace=count > documents)
    out = np.full((count, length + 1), -1, np.int64)
    for row, document in enumerate(chosen):
        first, last = store.documents[document : document + 2]
        size = min(int(last - first), length + 1)
        out[row, :size] = store.tokens[first : first + size]
    return torch.from_numpy(out)


def _check_alike(store: Store, target: Store) -> None:
    if store.vocabulary != target.vocabulary or store.end_id != target.end_id:
        raise DataError(
            f"a corpus of {store.vocabulary} ids and a target of {target.vocabulary}",
            expected="one tokenizer for both",
            where=str(target.path),
            write=f"build(..., tokenizer={str(store.path)!r}) for the target",
        )
