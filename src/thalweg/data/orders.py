"""In which order documents come: frozen parts that turn scores into positions.

An order sees a `Pool`, the documents that were selected, and a `Turn`, which pass over them it
is; it returns positions in the pool. It is a pure function, so an epoch can be made again at any
time and nothing is saved. `Ordered` feeds a run with one; they work as well on bare arrays:

    Folded("lqs", folds=3)(Pool.of({"lqs": scores}), Turn())

A pass may leave documents out (`WeightedSubset`) or give some twice (`Views`). Positions are
uint32: 20 million documents take 80 MB, and the sorts work in place on twice that.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from thalweg.core.rng import rng
from thalweg.data.order import order_key, permute
from thalweg.data.pool import BLOCK, Pool, Turn, ascending
from thalweg.errors import DialError, RecipeError

__all__ = [
    "AsStored",
    "Folded",
    "Order",
    "Shuffled",
    "SoftSorted",
    "Sorted",
    "Stages",
    "Views",
    "WeightedSubset",
    "cycle",
]


class Order(Protocol):
    """Positions of a pool in the order of a pass."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        ...

    def __call__(self, pool: Pool, turn: Turn) -> np.ndarray:
        """Return uint32 [m], each in 0 .. count-1."""
        ...


@dataclass(frozen=True)
class AsStored:
    """As they lie."""

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, pool: Pool, turn: Turn) -> np.ndarray:
        """Return 0 .. count-1."""
        return np.arange(pool.count, dtype=np.uint32)


@dataclass(frozen=True)
class Shuffled:
    """A new random order in each pass, from the keyed permutation of `data.order`."""

    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, pool: Pool, turn: Turn) -> np.ndarray:
        """Return a permutation."""
        return _shuffle(pool.count, order_key(turn.seed, turn.name, turn.epoch))


@dataclass(frozen=True)
class Sorted:
    """From the lowest score to the highest, or the other way; the same in every pass.

    By a hardness it is easy to hard; by a quality, best last.
    """

    by: str
    """Column."""
    descending: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The column."""
        return (self.by,)

    def __call__(self, pool: Pool, turn: Turn) -> np.ndarray:
        """Return a permutation; equal scores stay as they lie."""
        score = pool.score(self.by)
        return ascending(-score if self.descending else score)


@dataclass(frozen=True)
class Folded:
    """Several sweeps from the lowest score to the highest, each over every `folds`-th document.

    Fold l holds the documents whose place in the ascending order is l modulo `folds`. One fold is
    plain sorting, and so are as many folds as documents.

    Source: arXiv:2506.21545 (DELT), folding with its default of 3 layers.

    Example:
        >>> pool = Pool.of({"lqs": np.array([0.3, 0.1, 0.2, 0.4])})
        >>> Folded("lqs", folds=2)(pool, Turn()).tolist()
        [1, 0, 2, 3]
    """

    by: str
    folds: int = 3

    def __post_init__(self) -> None:
        """Refuse less than one fold.

        Raises:
            DialError: `folds` is below 1.
        """
        _at_least(self, "folds", self.folds, 1)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column."""
        return (self.by,)

    def __call__(self, pool: Pool, turn: Turn) -> np.ndarray:
        """Return a permutation."""
        order = ascending(pool.score(self.by))
        folded: np.ndarray = np.concatenate(
            [order[fold :: self.folds] for fold in range(self.folds)]
        )
        return folded


@dataclass(frozen=True)
class Stages:
    """From low to high scores in stages of equal size; shuffled anew within each stage."""

    by: str
    stages: int = 3

    def __post_init__(self) -> None:
        """Refuse less than one stage.

        Raises:
            DialError: `stages` is below 1.
        """
        _at_least(self, "stages", self.stages, 1)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column."""
        return (self.by,)

    def __call__(self, pool: Pool, turn: Turn) -> np.ndarray:
        """Return a permutation."""
        order = ascending(pool.score(self.by))
        for number, part in enumerate(np.array_split(order, self.stages)):
            name = f"{turn.name}/stage-{number}"
            part[:] = part[_shuffle(len(part), order_key(turn.seed, name, turn.epoch))]
        return order


@dataclass(frozen=True)
class SoftSorted:
    """Low to high with a spread: the order of rank / count + spread * normal noise.

    At the share p of a pass the documents come from around the p-quantile of the score. 0 is
    sorted; from about 3 on hardly more than shuffled.
    """

    by: str
    spread: float = 0.1
    """Standard deviation, as a share of all documents."""

    def __post_init__(self) -> None:
        """Refuse a negative spread.

        Raises:
            DialError: `spread` is below 0.
        """
        _at_least(self, "spread", self.spread, 0)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column."""
        return (self.by,)

    def __call__(self, pool: Pool, turn: Turn) -> np.ndarray:
        """Return a permutation."""
        order = ascending(pool.score(self.by))
        draw = rng(turn.seed, "soft-sorted", turn.name, turn.epoch)
        noise = draw.standard_normal(pool.count, dtype=np.float32)
        noise *= self.spread
        noise += np.linspace(0.0, 1.0, pool.count, dtype=np.float32)
        found: np.ndarray = order[ascending(noise)]
        return found


@dataclass(frozen=True)
class WeightedSubset:
    """A part of the documents in each pass, drawn without replacement in proportion to a weight.

    Pass e draws floor(fractions[e mod len] * count) documents: keys -log(u) / weight, the smallest
    ones (exponential keys, the same law as drawing one after the other). They come shuffled.
    `fractions=cycle(0.25)` is the cyclical curriculum.

    Source: arXiv:2202.05531 (cyclical curriculum); Efraimidis and Spirakis 2006 (the keys).
    """

    by: str | None = None
    """Column of positive scores: a loss, a length. None: all alike."""
    fractions: tuple[float, ...] = (0.25, 0.5, 1.0, 0.5)
    """Share of the documents in each pass, over and over."""
    favour: Literal["low", "high"] = "low"
    """Weight 1 / score, or the score. One below the 0.001-quantile counts as that."""

    def __post_init__(self) -> None:
        """Refuse fractions outside 0..1, or none.

        Raises:
            DialError: There are no fractions, or one is not in (0, 1].
        """
        if not self.fractions or not all(0 < part <= 1 for part in self.fractions):
            raise DialError(
                f"fractions={self.fractions}",
                expected="one or more numbers, above 0 and at most 1",
                where="WeightedSubset.fractions",
                write="fractions=cycle(0.25)",
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The column, if there is one."""
        return () if self.by is None else (self.by,)

    def __call__(self, pool: Pool, turn: Turn) -> np.ndarray:
        """Return floor(fraction * count) different positions, at least one."""
        many = max(1, int(self.fractions[turn.epoch % len(self.fractions)] * pool.count))
        draw = rng(turn.seed, "weighted-subset", turn.name, turn.epoch)
        keys = draw.standard_exponential(pool.count, dtype=np.float32)
        if self.by is not None:
            floored = self._positive(pool.score(self.by))
            keys = keys * floored if self.favour == "low" else keys / floored
        chosen = np.sort(ascending(keys)[:many])
        mixed = _shuffle(many, order_key(turn.seed, turn.name, turn.epoch))
        shuffled: np.ndarray = chosen[mixed]
        return shuffled

    def _positive(self, score: np.ndarray) -> np.ndarray:
        if not score.min() > 0:
            raise RecipeError(
                f"a score of {float(score.min()):g} in column '{self.by}'",
                expected="scores above 0: they are turned into weights",
                where="WeightedSubset.by",
                write="a loss, a perplexity or a length",
            )
        floored: np.ndarray = np.maximum(score, np.quantile(score, 1e-3))
        return floored


@dataclass(frozen=True)
class Views:
    """Every document `copies` times in a row, then not again for `copies` passes.

    A pass has as many documents as the pool, but 1/copies of them different; the interval of
    recall grows to `copies` passes at the same exposure. Pass e is the slice (e mod copies) of the
    repeated order number e div copies. Equal copies are one gradient of `copies` times the weight:
    the method lives from views that differ (dropout, renderings).

    Source: the sampler of the ViewBatch model's code (`ViewBatchReplay`).

    Example:
        >>> Views(2)(Pool(4, {}), Turn()).tolist()
        [1, 1, 2, 2]
    """

    copies: int = 4
    needs: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Refuse less than one copy.

        Raises:
            DialError: `copies` is below 1.
        """
        _at_least(self, "copies", self.copies, 1)

    def __call__(self, pool: Pool, turn: Turn) -> np.ndarray:
        """Return `count` positions."""
        number, part = divmod(turn.epoch, self.copies)
        order = _shuffle(pool.count, order_key(turn.seed, turn.name, number))
        first = part * pool.count
        return order[np.arange(first, first + pool.count) // self.copies]


def cycle(low: float, high: float = 1.0, factor: float = 0.5) -> tuple[float, ...]:
    """Return one round of the sizes of the cyclical curriculum: up from `low` to `high`, and down.

    Each is the one before / factor on the way up (at most `high`), * factor on the way down (above
    `low`, with which the next round begins).

    Source: arXiv:2202.05531.

    Example:
        >>> cycle(0.25)
        (0.25, 0.5, 1.0, 0.5)
    """
    if not (0 < low <= high <= 1 and 0 < factor < 1):
        raise DialError(
            f"cycle({low}, {high}, {factor})",
            expected="0 < low <= high <= 1 and 0 < factor < 1",
            where="cycle",
            write="cycle(0.25, 1.0, 0.5)",
        )
    sizes = [low]
    while sizes[-1] < high:
        sizes.append(min(sizes[-1] / factor, high))
    while sizes[-1] * factor > low:
        sizes.append(sizes[-1] * factor)
    return tuple(sizes)


def _shuffle(count: int, key: int) -> np.ndarray:
    out = np.empty(count, np.uint32)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        out[start:stop] = permute(np.arange(start, stop, dtype=np.uint64), count, key)
    return out


def _at_least(part: object, field: str, value: float, low: float) -> None:
    if not value >= low:
        raise DialError(
            f"{field}={value}",
            expected=f"{low} or more",
            where=f"{type(part).__name__}.{field}",
            write=f"{field}={max(low, 3)}",
        )
