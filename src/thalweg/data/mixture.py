"""Several sources in one batch, at weights that may change at every step.

Let w_s(i) be the normalised weight of source s when row i of the run is drawn. Keep
owed_s = sum_{j<=i} w_s(j) - given_s. Row i goes to the source with the largest owed, ties to the
first. So the counts follow the *integral* of the weights, whatever moves them: a schedule, a
controller, a branch. Weights are integers that sum to 2^32 and so are their sums: nothing is
rounded twice, and a resumed run cannot break a tie the other way.

How far counts are from their targets, in rows: never a whole row too many. Too few by at most
0.5, 0.83, 1.08, 1.28 for 2, 3, 4, 5 sources (H_n - 1, reached only by weights that react to every
row); under constant, ramped or random weights at most about 1 has been seen for up to 100. Whole
groups (`Rollouts`) come a group at a time, never a group too many; where one does not fit into the
rows left of a batch, single rows of the others fill it and the group comes in the next.

Where a row lacks a column of another source, it has the neutral value of the table of columns.

Source: the rule of Megatron-LM's blended dataset, with its constant target w*i replaced by the
integral. The bound is that of the cup game with the fullest cup emptied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple, cast

import numpy as np

from thalweg.core.batch import Batch
from thalweg.core.join import Joined, check_columns, filled, joined
from thalweg.core.protocols import Context, Dial, Foreseen, Source, State
from thalweg.core.time import Time
from thalweg.data.rows import block_of, is_limited
from thalweg.errors import DataError, DialError, RecipeError, StateError, did_you_mean

__all__ = ["UNIT", "Mixture", "Shared", "share_rows", "units", "weights_at"]

UNIT = 1 << 32
"""What the integer weights sum to."""

_NEVER = -(1 << 62)


class Shared(NamedTuple):
    """The outcome of `share_rows`."""

    order: np.ndarray
    """int64 [rows]: which source each row goes to."""
    owed: list[int]
    """Owed after the last row, in 1/2^32 rows; sums to 0."""


def units(weights: Sequence[float], names: Sequence[str] | None = None) -> np.ndarray:
    """Return the weights as integers that sum to 2^32, by largest remainder.

    Args:
        weights: [n], each >= 0 and finite, not all 0.
        names: What to call them in an error.

    Returns:
        int64 [n], read-only; a weight of 0 stays 0.

    Raises:
        DialError: A weight is negative or not finite, or all are 0.

    Example:
        >>> (units([1, 1]) / UNIT).tolist()
        [0.5, 0.5]
    """
    return _units(tuple(weights), tuple(names or map(str, range(len(weights)))))


def share_rows(
    weights: np.ndarray,
    owed: Sequence[int],
    rows: int,
    room: Sequence[int],
    blocks: Sequence[int] | None = None,
) -> Shared:
    """Give rows to sources by the largest-deficit rule.

    A source without room gets nothing; its weight goes to the others in their proportions.

    Args:
        weights: int64 [n], summing to 2^32; see `units`.
        owed: [n], in 1/2^32 rows: what each source is owed so far.
        rows: Rows to give.
        room: [n], rows each source can still give.
        blocks: [n], rows that each source gives at a time; None: 1 each.

    Raises:
        DataError: No source with weight has room left, or blocks do not fill the rows.

    Example:
        >>> share_rows(units([2, 1]), [0, 0], 6, [9, 9]).order.tolist()
        [0, 1, 0, 0, 1, 0]
    """
    left, debt, order = list(room), list(owed), list[int]()
    sizes = [1] * len(left) if blocks is None else list(blocks)
    flow, shut = weights.tolist(), any(has < size for has, size in zip(left, sizes, strict=True))
    if shut:
        flow = _open_only(weights, left, sizes, debt)
    while len(order) < rows:
        debt = [one + more for one, more in zip(debt, flow, strict=True)]
        best = debt.index(max(debt))
        if sizes[best] > 1:
            best = _fitting(debt, flow, sizes, rows - len(order), best)
            debt = [d + (sizes[best] - 1) * f for d, f in zip(debt, flow, strict=True)]
        debt[best] -= sizes[best] * UNIT
        order += [best] * sizes[best]
        left[best] -= sizes[best]
        if left[best] < sizes[best] and len(order) < rows:
            flow = _open_only(weights, left, sizes, debt)
    return Shared(np.array(order, np.int64), [0 if one < _NEVER // 2 else one for one in debt])


@dataclass(frozen=True)
class Mixture:
    """Rows of several sources, in proportions that are a dial.

    State: what each source is owed and was given, and their states; a few hundred bytes.

    Example:
        >>> from thalweg.data import Corpus
        >>> Mixture({"web": Corpus("web"), "code": Corpus("code")}, {"web": 3, "code": 1}).names
        ('web', 'code')
    """

    sources: Mapping[str, Source]
    """Sources by name. The names of a mixture inside get this name and a slash before them."""
    weights: Dial
    """Rows asked of each name, relative: numbers or schedules, or a schedule of such a mapping."""

    @property
    def makes(self) -> tuple[str, ...]:
        """Columns of every batch: those of all its sources."""
        return tuple(dict.fromkeys(name for s in self.sources.values() for name in s.makes))

    @property
    def partial(self) -> tuple[str, ...]:
        """Columns that some of its sources do not make; their rows have neutral values."""
        inner = {n for s in self.sources.values() if isinstance(s, Joined) for n in s.partial}
        lacks = (set(self.makes) - set(source.makes) for source in self.sources.values())
        return tuple(sorted(inner.union(*lacks)))

    @property
    def block(self) -> int:
        """Rows it must be asked for, or a multiple: 1 as soon as a source gives single rows."""
        return gcd(*(block_of(source) for source in self.sources.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sources, of nested ones as `outer/inner`."""
        return tuple(name for key in self.sources for name in self._leaves(key))

    @property
    def row_tokens(self) -> int:
        """Targets of a row; 0 when no source says."""
        return max((s.row_tokens for s in self._foreseen().values()), default=0)

    @property
    def vocabulary(self) -> int:
        """Number of token ids; 0 when no source says."""
        return max((s.vocabulary for s in self._foreseen().values()), default=0)

    @property
    def sizes(self) -> Mapping[str, int]:
        """The target tokens of one epoch, by name, of the sources that know."""
        return {
            name: size
            for key, source in self._foreseen().items()
            for name, size in zip(self._leaves(key), source.sizes.values(), strict=True)
        }

    def shares(self, time: Time) -> Mapping[str, np.ndarray]:
        """Return the planned share of each name, in the shape of `time.step`; none runs out."""
        weights = weights_at(self.weights, time, tuple(self.sources))
        stacked = np.stack(np.broadcast_arrays(time.step, *weights.values())[1:])
        _check_all(stacked, tuple(self.sources))
        planned: dict[str, np.ndarray] = {}
        for (key, source), share in zip(
            self.sources.items(), stacked / stacked.sum(0), strict=True
        ):
            inner = source.shares(time) if isinstance(source, Foreseen) else {key: 1.0}
            planned.update(
                (name, share * np.asarray(part))
                for name, part in zip(self._leaves(key), inner.values(), strict=True)
            )
        return planned

    def start(self, ctx: Context) -> State:
        """Return the state before the first row.

        Raises:
            RecipeError: No source, or sources whose rows differ in length.
            ColumnError: A source lacks a column that has no neutral value.
            DialError: Weights that are negative, not finite, all zero, or of other names.
            DataError: A source with less text than one row.
        """
        _check_sources(self.sources)
        self._units(ctx.time)
        self._check_rows()
        zeros = [0] * len(self.sources)
        states = {name: source.start(ctx) for name, source in self.sources.items()}
        return {"owed": zeros, "given": list(zeros), "sources": states}

    def room(self, state: State, ctx: Context) -> int:
        """Return how many of `ctx.rows` rows can still be given."""
        weights = self._units(ctx.time).tolist()
        rooms = self._rooms(state, ctx)
        return min(ctx.rows, sum(r for r, weight in zip(rooms, weights, strict=True) if weight))

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return `ctx.rows` rows in the order they were decided, and the next state.

        A source that gives more or fewer rows than it was asked for (whole groups, say) has its
        rows kept together instead, and the counts are those of the rows asked.

        Raises:
            DialError: The weights went bad.
            StateError: The state was made with other sources.
            DataError: Every source with weight has given all its epochs.
        """
        order, counts, after = self._decide(state, ctx)
        states, batches, first = dict(state["sources"]), [], 0
        for (key, source), count in zip(self.sources.items(), counts, strict=True):
            if count:
                batch, states[key] = source.next(states[key], replace(ctx, rows=count))
                batches.append(batch.plus({"source": batch["source"] + first}) if first else batch)
            first += len(source.names)
        whole = filled(joined(batches) if len(batches) > 1 else batches[0], self.makes)
        if [batch.rows for batch in batches] == [count for count in counts if count]:
            whole = whole.take(np.argsort(np.argsort(order, kind="stable"), kind="stable"))
        return whole, {**after, "sources": states}

    def _decide(self, state: State, ctx: Context) -> tuple[np.ndarray, list[int], State]:
        if list(state["sources"]) != list(self.sources):
            raise _other_sources(list(state["sources"]), list(self.sources))
        rooms = self._rooms(state, ctx)
        blocks = [block_of(source) for source in self.sources.values()]
        shared = share_rows(self._units(ctx.time), state["owed"], ctx.rows, rooms, blocks)
        counts = np.bincount(shared.order, minlength=len(self.sources)).tolist()
        given = [old + new for old, new in zip(state["given"], counts, strict=True)]
        return shared.order, counts, {"owed": shared.owed, "given": given}

    def _rooms(self, state: State, ctx: Context) -> list[int]:
        return [
            source.room(state["sources"][name], ctx) if is_limited(source) else ctx.rows
            for name, source in self.sources.items()
        ]

    def _leaves(self, key: str) -> tuple[str, ...]:
        inner = self.sources[key].names
        return (key,) if len(inner) == 1 else tuple(f"{key}/{name}" for name in inner)

    def _foreseen(self) -> Mapping[str, Foreseen]:
        return {name: s for name, s in self.sources.items() if isinstance(s, Foreseen)}

    def _check_rows(self) -> None:
        """Refuse a source that cannot fill a row: its weight would be spent on filling."""
        for name, source in self._foreseen().items():
            size, part = sum(source.sizes.values()), sum(source.shares(Time(0, 1)).values())
            if 0 < size < source.row_tokens * float(part):
                raise DataError(
                    f"source '{name}' has {size} targets, less than one row of {source.row_tokens}",
                    expected="text for one row or more from every source of a mixture",
                    where="Mixture.sources",
                    write=f"length={size} on every source, or '{name}' left out, or joined "
                    "with another: build([...])",
                )

    def _units(self, time: Time) -> np.ndarray:
        weights = weights_at(self.weights, time, tuple(self.sources)).values()
        return units([float(weight) for weight in weights], tuple(self.sources))


def weights_at(weights: Dial, time: Time, names: tuple[str, ...]) -> Mapping[str, Any]:
    """Return weights without schedules; the loop has frozen them already, others may not have.

    Args:
        weights: As `Mixture.weights`.
        time: When; for a plan, all moments at once.
        names: Of the sources.

    Raises:
        DialError: Weights of other names.
    """
    found = weights(time) if callable(weights) else weights
    if not isinstance(found, Mapping) or set(found) != set(names):
        raise _wrong_names(found, names)
    return {name: found[name](time) if callable(found[name]) else found[name] for name in names}


def _check_all(weights: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse weights [n, ...] that are negative, not finite, or all zero at any moment."""
    bad = ~np.isfinite(weights).all(0) | (weights < 0).any(0) | ~(weights > 0).any(0)
    if np.any(bad):
        place = int(np.flatnonzero(np.atleast_1d(bad))[0])
        shown = weights.reshape(len(names), -1)[:, place].tolist()
        raise DialError(
            f"weights {dict(zip(names, shown, strict=True))}"
            + (f" at planned step {place}" if weights.ndim > 1 else ""),
            expected="numbers that are finite and >= 0, at least one above 0",
            where="Mixture.weights",
            write="{" + ", ".join(f"'{name}': 1.0" for name in names) + "}",
        )


def _wrong_names(found: object, names: tuple[str, ...]) -> DialError:
    if not isinstance(found, Mapping):
        given, hint = f"weights {found!r}", ""
    else:
        extra = [str(name) for name in found if name not in names]
        given = f"weights for {[str(name) for name in found]}"
        hint = "".join(f"; for '{name}' {did_you_mean(name, names)}" for name in extra)
    return DialError(
        given,
        expected=f"one weight for each source: {list(names)}",
        where="Mixture.weights",
        write="{" + ", ".join(f"'{name}': 1.0" for name in names) + "}" + hint,
    )


@lru_cache(maxsize=4096)
def _units(weights: tuple[float, ...], names: tuple[str, ...]) -> np.ndarray:
    _check_all(np.array(weights, float), names)
    largest = max(weights)
    scaled = [weight / largest for weight in weights]
    total = sum(scaled)
    exact = [weight / total * UNIT for weight in scaled]
    whole = [int(x) for x in exact]
    by_rest = sorted(range(len(exact)), key=lambda s: (whole[s] - exact[s], s))
    by_rest = [s for s in by_rest if weights[s] > 0]
    for turn in range(UNIT - sum(whole)):
        whole[by_rest[turn % len(by_rest)]] += 1
    out = np.array(whole, np.int64)
    out.flags.writeable = False
    return out


def _fitting(debt: list[int], flow: list[int], sizes: Sequence[int], rows: int, best: int) -> int:
    """Return the source that is owed most of those whose block fits into the rows left."""
    if sizes[best] <= rows:
        return best
    fits = [s for s, size in enumerate(sizes) if size <= rows and flow[s] > 0]
    if not fits:
        raise DataError(
            f"{rows} rows left for sources that give {list(sizes)} rows at a time",
            expected="a batch that whole groups fill, or a source with weight for single rows",
            where="Mixture",
            write="rows that are a multiple of the group",
        )
    return max(fits, key=lambda source: debt[source])


def _open_only(
    weights: np.ndarray, room: Sequence[int], sizes: Sequence[int], debt: list[int]
) -> list[int]:
    """Shut sources without room: mark them in `debt`, return the weights of the others."""
    has_room = np.array(room) >= np.array(sizes)
    if not (weights * has_room).any():
        raise DataError(
            "no rows left: every source with a weight above 0 has given all its epochs",
            expected="at least one source with rows left",
            where="Mixture",
            write="fewer steps or rows, a larger max_epochs on a source, or max_epochs=None",
        )
    debt[:] = [one if open else _NEVER for one, open in zip(debt, has_room, strict=True)]
    return cast(list[int], units((weights * has_room).astype(float).tolist()).tolist())


def _check_sources(sources: Mapping[str, Source]) -> None:
    if not sources:
        raise RecipeError(
            "a mixture of nothing",
            expected="at least one source",
            where="Mixture.sources",
            write="Mixture({'web': Corpus(...), 'code': Corpus(...)}, {'web': 3, 'code': 1})",
        )
    check_columns({n: s.makes for n, s in sources.items()}, "Mixture.sources")
    lengths = {n: s.row_tokens for n, s in sources.items() if isinstance(s, Foreseen)}
    if len(set(lengths.values())) > 1:
        raise RecipeError(
            f"rows of different lengths: {lengths}",
            expected="one length for all sources of a mixture",
            where="Mixture.sources",
            write=f"length={max(lengths.values())} on each",
        )


def _other_sources(had: list[str], has: list[str]) -> StateError:
    return StateError(
        f"a position in a mixture of {had}, but this one has {has}",
        expected="the sources the run was started with, in that order",
        where="Mixture.sources",
        write="the old sources (a weight of 0 rests one), or a new phase",
    )
