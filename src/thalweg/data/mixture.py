"""Several sources in one batch, at weights that may change at every step.

Which row goes to which source is the rule of `deficit`: counts follow the integral of the weights
within about a row, whatever moves them: a schedule, a controller, a branch. Whole groups
(`Rollouts`) come a group at a time.

Where a row lacks a column of another source, it has the neutral value of the table of columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import gcd, inf
from typing import Any

import numpy as np
import torch

from thalweg.core.ahead import is_offline
from thalweg.core.batch import Batch
from thalweg.core.join import Joined, check_columns, filled, joined
from thalweg.core.plan import Ending
from thalweg.core.protocols import Context, Dial, Foreseen, Source, State
from thalweg.core.time import Time
from thalweg.data.deficit import check_weights, share_rows, units
from thalweg.data.rows import block_of, is_limited
from thalweg.data.unread import Unread, are_addressed, together
from thalweg.errors import DataError, DialError, RecipeError, StateError, did_you_mean

__all__ = ["Mixture", "weights_at"]


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
    def offline(self) -> bool:
        """Whether no model writes the rows of any of its sources."""
        return all(is_offline(source) for source in self.sources.values())

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

    def most(self, seed: int) -> float:
        """Return the most rows of all its sources together; infinite as soon as one has none."""
        return sum(s.most(seed) if isinstance(s, Ending) else inf for s in self.sources.values())

    def shares(self, time: Time) -> Mapping[str, np.ndarray]:
        """Return the planned share of each name, in the shape of `time.step`; none runs out."""
        _check_sources(self.sources)
        weights = weights_at(self.weights, time, tuple(self.sources))
        stacked = np.stack(np.broadcast_arrays(time.step, *weights.values())[1:])
        check_weights(stacked, tuple(self.sources))
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
        sources = self.sources.values()
        if not are_addressed(sources):
            batch, found = self._joined(order, counts, state["sources"], ctx)
            return batch, {**after, "sources": found}
        parts, states = list[Unread](), dict[str, State]()
        for (key, old), source, rows in zip(state["sources"].items(), sources, counts, strict=True):
            part, states[key] = source.unread(old, ctx, rows)
            parts.append(part)
        return together(parts, order), {**after, "sources": states}

    def _joined(
        self, order: np.ndarray, counts: list[int], states: Mapping[str, State], ctx: Context
    ) -> tuple[Batch, Mapping[str, State]]:
        """Return the rows and states of sources that do not all say where their rows lie."""
        batches, after = [], dict(states)
        given, firsts = [0] * len(counts), [0]
        for number, (key, source) in enumerate(self.sources.items()):
            if counts[number]:
                batch, after[key] = source.next(states[key], replace(ctx, rows=counts[number]))
                batches.append(batch)
                given[number] = batch.rows
            firsts.append(firsts[-1] + len(source.names))
        whole = filled(joined(batches) if len(batches) > 1 else batches[0], self.makes)
        if given == counts:
            whole = whole.take(order.argsort(kind="stable").argsort(kind="stable"))
        else:
            order = np.repeat(np.arange(len(given)), given)
        first_of_row = torch.from_numpy(np.array(firsts)[order])
        return whole.plus({"source": whole["source"] + first_of_row}), after

    def _decide(self, state: State, ctx: Context) -> tuple[np.ndarray, list[int], State]:
        if list(state["sources"]) != list(self.sources):
            raise _other_sources(list(state["sources"]), list(self.sources))
        rooms = self._rooms(state, ctx)
        blocks = [block_of(source) for source in self.sources.values()]
        shared = share_rows(self._units(ctx.time), state["owed"], ctx.rows, rooms, blocks)
        given = [old + new for old, new in zip(state["given"], shared.counts, strict=True)]
        return shared.order, shared.counts, {"owed": shared.owed, "given": given}

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
        DialError: Weights of other names, or one that is no number.
    """
    found = weights(time) if callable(weights) else weights
    if not isinstance(found, Mapping) or set(found) != set(names):
        raise _wrong_names(found, names)
    values = {n: found[n](time) if callable(found[n]) else found[n] for n in names}
    if any(np.asarray(value).dtype.kind not in "iuf" for value in values.values()):
        raise _wrong_names(found, names)
    return values


def _wrong_names(found: object, names: tuple[str, ...]) -> DialError:
    if isinstance(found, Mapping) and set(found) != set(names):
        hints = (f"; for '{n}' {did_you_mean(str(n), names)}" for n in found if n not in names)
        given, hint = f"weights for {[str(name) for name in found]}", "".join(hints)
    else:
        given, hint = f"weights {found!r}", ""
    return DialError(
        given,
        expected=f"one number or schedule for each source: {list(names)}",
        where="Mixture.weights",
        write="{" + ", ".join(f"'{name}': 1.0" for name in names) + "}" + hint,
    )


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
