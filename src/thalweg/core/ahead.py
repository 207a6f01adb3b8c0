"""Reading ahead: what the coming steps work with, made for several steps at once.

A model's step empties the caches, and what comes first after it pays: a batch costs some three
times what it costs right behind another. Where the data is offline (it follows from the state of
the source, the seed and the clock), the dials and batches of coming steps follow too. They are made
together then, each at its own moment, and are handed out one by one.

A batch is only handed out at the moment, and for the state of its source, that it was made for.
Whatever comes between (a rollback, a move that changes what counts) is noticed by that, and what
was made is made again. So runs are the same, bit for bit, however far they read ahead.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import torch

from thalweg.core.batch import Batch, targets_of
from thalweg.core.dials import Dials
from thalweg.core.protocols import Context, Source, State
from thalweg.core.recipe import Phase
from thalweg.core.returned import check_columns, check_drawn
from thalweg.core.state import RunState, check_state
from thalweg.core.time import Time
from thalweg.core.world import World

__all__ = ["Ahead", "Drawn", "Moment", "Offline", "draw", "is_offline", "tokens_by_source"]

_FAR = 8
"""Steps that are read ahead at most: what is left to gain behind them is little."""
_MUCH = 1 << 24
"""Bytes that wait at most; steps on more are so long that nothing is to be gained."""


@runtime_checkable
class Offline(Protocol):
    """A source that may say that no model writes its rows."""

    @property
    def offline(self) -> bool:
        """Whether batches follow from the state, the seed, the clock and the rows asked for alone.

        The loop asks for them some steps early then, with a context that holds nothing else.
        """
        ...


class Drawn(NamedTuple):
    """What a source gave."""

    batch: Batch
    source: State
    """Of the source, behind the batch."""


@dataclass(frozen=True)
class Moment:
    """What a step works with."""

    time: Time
    live: Phase
    """The phase with every schedule frozen."""
    dials: Mapping[str, float]
    """Their values, for the log."""
    before: State
    """Of the source, before the batch."""
    drawn: Drawn | None = None
    """None where the source has to be asked in the step itself."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """Targets of the batch that count, by source."""


class Ahead:
    """The moments of a phase, under one set of dials.

    How far it reads doubles from one step to `_FAR` while what it has made is used, so that a
    phase whose dials are set anew at every step, or a short trial, does nothing in vain.

    Args:
        dials: Of the phase.
        seed: Of the run.
        world: The ranks.
    """

    def __init__(self, dials: Dials, seed: int, world: World) -> None:
        self._dials, self._seed, self._world = dials, seed, world
        self._offline = is_offline(dials.phase.source)
        self._waiting: deque[Moment] = deque()
        self._far = 1

    def moment(self, state: RunState) -> Moment:
        """Return what the next step works with.

        Raises:
            DialError: A number that a part refuses.
            ThalwegError: The source has no batch for it, or gives what is none.
        """
        time = self._dials.time(state)
        if self._waiting:
            found = self._waiting.popleft()
            if found.time == time and found.before is state.source:
                return found
            self._waiting.clear()
            self._far = 1
        first = self._made(time, state.source)
        self._read_on(first)
        return first

    def _read_on(self, moment: Moment) -> None:
        """Make the moments that follow, as many as may wait; an error is left to its own step."""
        waiting = 0
        for _ in range(self._far - 1):
            if moment.drawn is None:
                break
            waiting += _bytes(moment.drawn.batch)
            time = _after(moment.time, sum(moment.tokens.values()))
            if waiting > _MUCH or time.step == time.steps:
                break
            try:
                moment = self._made(time, moment.drawn.source)
            except Exception:  # of any part; whoever comes to that step meets it again
                break
            self._waiting.append(moment)
        self._far = min(2 * self._far, _FAR)

    def _made(self, time: Time, source: State) -> Moment:
        live = self._dials.live(time)
        dials = self._dials.values(live)
        if not self._offline:
            return Moment(time, live, dials, source)
        batch, after = draw(live.source, source, Context(time, self._seed, live.rows))
        drawn = Drawn(self._world.read_early(batch), after)
        tokens = tokens_by_source(drawn.batch, live.source.names)
        return Moment(time, live, dials, source, drawn, tokens)


def is_offline(source: Source) -> bool:
    """Return whether a source says that it is offline."""
    return isinstance(source, Offline) and source.offline


def draw(source: Source, state: State, ctx: Context) -> Drawn:
    """Return what a source gives, if that is a batch and a state.

    Raises:
        RecipeError: It is none, or the state would not survive a resume.
        ColumnError: In the first step of a phase: columns that are not what they are called.
    """
    batch, own = check_drawn(source.next(state, ctx), source, int(ctx.time.run_step) + 1)
    if int(ctx.time.step) == 0:
        check_columns(batch, source.makes, source.names, type(source).__name__)
        check_state(own, source)
    return Drawn(batch, own)


def tokens_by_source(batch: Batch, names: tuple[str, ...]) -> dict[str, int]:
    """Return the number of targets that count, by source."""
    counts = targets_of(batch).tolist()
    if len(names) < 2:
        return {names[0] if names else "data": sum(counts)}
    totals = [0] * len(names)
    for source, count in zip(batch["source"].tolist(), counts, strict=True):
        totals[source] += count
    return dict(zip(names, totals, strict=True))


def _bytes(batch: Batch) -> int:
    """Return what the columns hold that are read."""
    columns = (batch.column(name) for name in batch)
    return sum(column.nbytes for column in columns if isinstance(column, torch.Tensor))


def _after(time: Time, tokens: int) -> Time:
    """Return the moment after a step that gave so many targets."""
    step, run_step = int(time.step) + 1, int(time.run_step) + 1
    return Time(step, time.steps, time.tokens + tokens, run_step, time.batch_tokens)
