"""Which documents are used: frozen parts that turn scores into positions.

Several are applied one after the other, each to what the one before has left. A document that a
check has marked (a duplicate, a benchmark question) is a score of 1 in a column of that check,
and `Between("duplicate", high=0)` leaves it out.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from thalweg.data.pool import Pool, ascending
from thalweg.errors import DialError

__all__ = ["Band", "Between", "PerGroup", "Select", "Top"]


class Select(Protocol):
    """Positions of a pool that stay."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns it reads."""
        ...

    def __call__(self, pool: Pool) -> np.ndarray:
        """Return uint32 [m], rising."""
        ...


@dataclass(frozen=True)
class Top:
    """The share of the documents with the highest (or lowest) scores; ties: the first ones.

    Example:
        >>> Top("quality", 0.5)(Pool.of({"quality": np.array([3.0, 1.0, 2.0, 0.0])})).tolist()
        [0, 2]
    """

    by: str
    ratio: float
    """Share that stays, above 0."""
    lowest: bool = False
    """Keep the lowest instead: a perplexity, a loss."""

    def __post_init__(self) -> None:
        """Refuse a ratio that is no share.

        Raises:
            DialError: It is not in (0, 1].
        """
        _check_share(self, "ratio", self.ratio, low_open=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column."""
        return (self.by,)

    def __call__(self, pool: Pool) -> np.ndarray:
        """Return ceil(ratio * count) positions."""
        score = pool.score(self.by)
        many = int(np.ceil(self.ratio * pool.count))
        return np.sort(ascending(score if self.lowest else -score)[:many])


@dataclass(frozen=True)
class Band:
    """The documents whose rank by score lies between two shares of all: thirds, middle halves.

    Example:
        >>> pool = Pool.of({"hardness": np.array([3.0, 1.0, 2.0, 0.0])})
        >>> Band("hardness", 0.0, 0.5)(pool).tolist()
        [1, 3]
    """

    by: str
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an empty band.

        Raises:
            DialError: Not 0 <= low < high <= 1.
        """
        _check_share(self, "low", self.low)
        _check_share(self, "high", self.high)
        _check_order(self, self.low, self.high, strict=True)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column."""
        return (self.by,)

    def __call__(self, pool: Pool) -> np.ndarray:
        """Return round(high * count) - round(low * count) positions."""
        first, last = round(self.low * pool.count), round(self.high * pool.count)
        return np.sort(ascending(pool.score(self.by))[first:last])


@dataclass(frozen=True)
class Between:
    """The documents with low <= score <= high.

    Example:
        >>> Between("copies", high=0)(Pool.of({"copies": np.array([0.0, 1.0, 0.0])})).tolist()
        [0, 2]
    """

    by: str
    low: float | None = None
    """None: no bound."""
    high: float | None = None

    def __post_init__(self) -> None:
        """Refuse bounds that nothing can meet.

        Raises:
            DialError: low > high, or NaN.
        """
        low = -np.inf if self.low is None else self.low
        _check_order(self, low, np.inf if self.high is None else self.high, strict=False)

    @property
    def needs(self) -> tuple[str, ...]:
        """The column."""
        return (self.by,)

    def __call__(self, pool: Pool) -> np.ndarray:
        """Return the positions within the bounds."""
        score, keep = pool.score(self.by), np.ones(pool.count, bool)
        if self.low is not None:
            keep &= score >= np.float32(self.low)
        if self.high is not None:
            keep &= score <= np.float32(self.high)
        return np.flatnonzero(keep).astype(np.uint32)


@dataclass(frozen=True)
class PerGroup:
    """At most so many documents of each group, those with the highest (or lowest) scores.

    Example:
        >>> columns = {"site": np.array([7.0, 7, 7, 9]), "quality": np.array([1.0, 3, 2, 0])}
        >>> PerGroup("site", most=2, by="quality")(Pool.of(columns)).tolist()
        [1, 2, 3]
    """

    group: str
    """Column with a number for each group: a site, a cluster."""
    most: int
    by: str
    lowest: bool = False

    def __post_init__(self) -> None:
        """Refuse a cap below one.

        Raises:
            DialError: `most` is below 1.
        """
        if self.most < 1:
            raise DialError(
                f"most={self.most}", expected="1 or more", where="PerGroup.most", write="most=100"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """Both columns."""
        return (self.group, self.by)

    def __call__(self, pool: Pool) -> np.ndarray:
        """Return at most `most` positions of each group."""
        score = pool.score(self.by)
        best = ascending(score if self.lowest else -score)
        group = np.asarray(pool.score(self.group))[best]
        together = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[together], prepend=np.nan))
        rank = np.arange(pool.count) - np.repeat(starts, np.diff(starts, append=pool.count))
        return np.sort(best[together[rank < self.most]])


def _check_share(part: object, field: str, value: float, *, low_open: bool = False) -> None:
    if not (0 <= value <= 1) or (low_open and value == 0):
        raise DialError(
            f"{field}={value}",
            expected=f"a share: {'0 <' if low_open else '0 <='} {field} <= 1",
            where=f"{type(part).__name__}.{field}",
            write=f"{field}=0.4",
        )


def _check_order(part: object, low: float, high: float, *, strict: bool) -> None:
    if not (low < high if strict else low <= high):
        raise DialError(
            f"from {low:g} to {high:g}",
            expected="a lower bound below the upper one",
            where=type(part).__name__,
            write="low=0.2, high=0.8",
        )
