"""The loop: freeze the dials, take a batch, make the moves, measure, write, steer.

    live  = at(phase, time)                       every schedule becomes a number
    batch, source = live.source.next(source, ctx) perhaps some steps early (core/ahead.py)
    for move in live.do: batch = move(batch, ctx)
    monitors, record, controllers

It knows no regime: pretraining, preference learning and RL differ in the source and the moves.
"""

import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from thalweg.core.ahead import Ahead, draw, tokens_by_source
from thalweg.core.dials import Dials
from thalweg.core.learner import Learner
from thalweg.core.protocols import Context, Controller, FromStart, Monitor, Move, Source
from thalweg.core.recipe import Phase, Recipe
from thalweg.core.report import Report
from thalweg.core.returned import check_batch, numbers
from thalweg.core.state import RunState, check_state
from thalweg.core.time import Span, Time
from thalweg.core.world import World
from thalweg.errors import Diverged

__all__ = ["Bench", "Closing", "Memory", "Recorder", "run", "run_phase"]


@runtime_checkable
class Closing(Protocol):
    """A move that does something at the end of its phase."""

    def close(self, ctx: Context) -> None:
        """Do it now: a controller has ended the phase before the step that was planned as last."""
        ...


class Recorder(Protocol):
    """Where a run leaves its traces."""

    def step(self, state: RunState, report: Mapping[str, float], seconds: float) -> None:
        """Write the report of the step that led to `state`; `seconds` leave monitors out."""
        ...

    def save(
        self, state: RunState, learners: Mapping[str, Learner], tags: Sequence[str] = ()
    ) -> None:
        """Write a checkpoint if one is due, or always if it has a tag."""
        ...

    def keep(
        self, state: RunState, learners: Mapping[str, Learner], name: str, parent: int
    ) -> None:
        """Write the end of a trial that left the run at step `parent` as a branch of its own."""
        ...

    def note(self, step: int, kind: str, text: str) -> None:
        """Write down an event."""
        ...

    def sample(self, step: int, row: Mapping[str, Any]) -> None:
        """Write down a text that a model wrote."""
        ...

    def trial(self, state: RunState, rows: list[dict[str, float]], facts: dict[str, Any]) -> None:
        """Write the reports of a trial that started from `state`."""
        ...

    def interrupted(self) -> bool:
        """Return whether somebody asked the run to end now."""
        ...


class Memory:
    """A recorder that keeps the history in a list and writes nothing."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.trials: list[dict[str, float]] = []
        self.events: list[tuple[int, str, str]] = []
        self.samples: list[dict[str, Any]] = []
        self.last: RunState | None = None

    def step(self, state: RunState, report: Mapping[str, float], seconds: float) -> None:
        """Keep the report and the state."""
        self.history.append({"step": state.run_step, **report})
        self.last = state

    def save(
        self, state: RunState, learners: Mapping[str, Learner], tags: Sequence[str] = ()
    ) -> None:
        """Keep nothing."""

    def keep(
        self, state: RunState, learners: Mapping[str, Learner], name: str, parent: int
    ) -> None:
        """Keep nothing."""

    def note(self, step: int, kind: str, text: str) -> None:
        """Keep the event."""
        self.events.append((step, kind, text))

    def sample(self, step: int, row: Mapping[str, Any]) -> None:
        """Keep the sample."""
        self.samples.append({"step": step, **row})

    def trial(self, state: RunState, rows: list[dict[str, float]], facts: dict[str, Any]) -> None:
        """Keep the rows."""
        self.trials += rows

    def interrupted(self) -> bool:
        """Return False: nobody can ask."""
        return False


@dataclass(frozen=True)
class Bench:
    """What a run works with, besides its state."""

    recipe: Recipe
    learners: Mapping[str, Learner]
    world: World
    recorder: Recorder
    find: Callable[[str], Any]
    """Looks up the names in recorded overrides."""


def run(bench: Bench, state: RunState) -> RunState:
    """Run the phases from `state` to the end, a Stop, or an interruption; return where it ended.

    Raises:
        Diverged: A loss is not finite; nothing has stepped.
        RecipeError: A source or move of the user's own gives what is no batch.
    """
    with bench.world.lent():
        while state.phase < len(bench.recipe.phases) and not state.stopped:
            state, ended = _phase(bench, state)
            if not ended:
                break
    return state


def _phase(bench: Bench, state: RunState) -> tuple[RunState, bool]:
    """Run the rest of a phase; return where the next begins, and whether this one was ended."""
    from thalweg.core.control import steer  # the controllers' trials run this loop

    phase = bench.recipe.phases[state.phase]
    state, ended = run_phase(bench, phase, state, steer=steer)
    if ended:
        bench.recorder.save(state, bench.learners, tags=("end-of-" + phase.name,))
        return state.next_phase(), True
    if state.stopped:
        bench.recorder.save(state, bench.learners, tags=("stopped",))
    return state, False


Steer = Callable[[Bench, Phase, RunState, Context], tuple[RunState, list[str]]]


def run_phase(
    bench: Bench,
    phase: Phase,
    state: RunState,
    *,
    steer: Steer | None = None,
    stop: int | None = None,
) -> tuple[RunState, bool]:
    """Run a phase from `state`; return where it ended and whether it is over.

    Args:
        bench: What the run works with.
        phase: The phase as written; overrides of the state are applied here.
        state: Where to start.
        steer: Asks the controllers; None leaves them out (trials).
        stop: Step of the phase to stop at, before its end.
    """
    dials = Dials.of(phase, state.overrides, bench.find)
    state = _started(bench, phase, state, dials)
    ahead = Ahead(dials, bench.recipe.seed, bench.world)
    while not _over(state, dials.steps if stop is None else stop):
        state, ctx, seconds = _step(bench, ahead, state)
        bench.recorder.step(state, state.last["report"], seconds)
        if steer is None:
            continue
        overrides = state.overrides
        state, tags = steer(bench, phase, state, ctx)
        if state.ended:
            state = _closed(dials.live(ctx.time).do, state, ctx)
        if state.overrides is not overrides:
            dials = Dials.of(phase, state.overrides, bench.find)
            ahead = Ahead(dials, bench.recipe.seed, bench.world)
        interrupted = bench.world.any(bench.recorder.interrupted())
        bench.recorder.save(state, bench.learners, tags + ["interrupted"] * interrupted)
        if interrupted:
            return state, False
    return state, not state.stopped


def _closed(do: Sequence[Move], state: RunState, ctx: Context) -> RunState:
    """Let moves do what comes last, unless the step that a controller ended at was the last."""
    if int(ctx.time.step) + 1 == ctx.time.steps:
        return state
    said: dict[str, float] = {}
    for move in do:
        if isinstance(move, Closing):
            move.close(replace(ctx, log=said.update))
    return replace(state, last={**state.last, "report": {**state.last["report"], **said}})


def _over(state: RunState, end: int | None) -> bool:
    """Return whether the phase has no step left: at its end, or by a controller's word."""
    return state.ended or bool(state.stopped) or (end is not None and state.step >= end)


def _started(bench: Bench, phase: Phase, state: RunState, dials: Dials) -> RunState:
    """Return the state with the phase's source and controllers started, if they are not yet."""
    if state.source is not None:
        return state
    time = dials.time(state)
    live = dials.live(time)
    ctx = _context(bench, time, state, live.rows, Report(()))
    parts: tuple[Source | Controller, ...] = (live.source, *phase.controllers)
    source, *controllers = (part.start(ctx) for part in parts)
    for part, own in zip(parts, (source, *controllers), strict=True):
        check_state(own, part)
    state = replace(state, source=source, controllers=controllers)
    bench.recorder.save(state, bench.learners)
    return state


def _step(bench: Bench, ahead: Ahead, state: RunState) -> tuple[RunState, Context, float]:
    """Return the next state, what the step saw, and the seconds of its batch and moves."""
    begin = clock.perf_counter()
    moment = ahead.moment(state)
    time, live = moment.time, moment.live
    names = live.source.names
    report = Report(names)
    ctx = _context(bench, time, state, live.rows, report)
    if int(time.step) == 0:
        _measure_before(live.monitors, ctx)
        begin = clock.perf_counter()
    bench.world.seed(bench.recipe.seed, state.run_step)
    try:
        drawn = moment.drawn or draw(live.source, state.source, ctx)
        batch = drawn.batch
        for move in live.do:
            batch = check_batch(move(batch, ctx), move)
    except Diverged as error:
        raise _located(error, bench, state) from error
    seconds = clock.perf_counter() - begin
    known = moment.tokens if batch is drawn.batch else {}
    counts = known or tokens_by_source(batch, names)
    _measure(live.monitors, ctx)
    tokens = sum(counts.values())
    run_tokens = state.run_tokens + tokens
    here = {n: state.delivered.get(n, 0) + counts.get(n, 0) for n in names}
    delivered = {**state.delivered, **here}
    row = _row(report, moment.dials, live.name, run_tokens, delivered)
    after = replace(
        state,
        step=state.step + 1,
        run_step=state.run_step + 1,
        tokens=state.tokens + tokens,
        run_tokens=run_tokens,
        delivered=delivered,
        source=drawn.source,
        last={"report": row, "rows": report.rows()},
    )
    return after, ctx, seconds


def _measure_before(monitors: Sequence[Monitor], ctx: Context) -> None:
    """Let those monitors measure that want to see the models before the phase changes them."""
    for monitor in monitors:
        if isinstance(monitor, FromStart):
            ctx.log(numbers(monitor.before(ctx), type(monitor).__name__))


def _measure(monitors: Sequence[Monitor], ctx: Context) -> None:
    """Let those monitors measure whose turn it is after this step."""
    for monitor in monitors:
        if _due(monitor, ctx.time):
            ctx.log(numbers(monitor(ctx), type(monitor).__name__))


def _due(monitor: Monitor, time: Time) -> bool:
    """Return whether a monitor measures after this step: at its distance, and at the end."""
    endless = time.within(10_000) if time.steps is None else time
    every = monitor.every.of(endless) if isinstance(monitor.every, Span) else int(monitor.every)
    done = int(time.step) + 1
    return done % max(every, 1) == 0 or done == time.steps


def _row(
    report: Report, dials: Mapping[str, float], phase: str, tokens: int, sources: Mapping[str, int]
) -> dict[str, Any]:
    """Return the line of the history, in a fixed order."""
    delivered = {f"tokens/{name}": count for name, count in sources.items()}
    return {"phase": phase, "tokens": tokens, **report.values(), **dials, **delivered}


def _context(bench: Bench, time: Time, state: RunState, rows: int, report: Report) -> Context:
    run_step = state.run_step + 1
    return Context(
        time=time,
        seed=bench.recipe.seed,
        rows=int(rows),
        models=bench.learners,
        last=state.last,
        sum=bench.world.sum,
        log=report.log,
        learned=report.learned,
        note=lambda kind, text: bench.recorder.note(run_step, kind, text),
        sample=lambda row: bench.recorder.sample(run_step, row),
    )


def _located(error: Diverged, bench: Bench, state: RunState) -> Diverged:
    phase = bench.recipe.phases[state.phase].name
    bench.recorder.note(state.run_step + 1, "diverged", error.given)
    return Diverged(
        error.given,
        expected=error.expected,
        where=f"step {state.run_step + 1}, phase '{phase}', {error.where}",
        write=error.write,
    )
