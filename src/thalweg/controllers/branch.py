"""Decays that leave a trunk while it runs, each kept as a run of its own.

Three ways lead to the same targets; see `schedules.trunks`. `DecayBranches` is the one of forks:
the trunk keeps its rate, and each target gets a decay from the weights before, as a Trial that is
kept and rolled back. So plain WSD needs one run, and stable-then-decay one trunk with several
decays over different data. A decay that was not foreseen: ``thalweg branch RUN --at STEP``, which
gives the same branch, bit for bit.

With ``then="branch"`` the decayed weights are what goes on (WSD-S): nothing is rolled back, the
target is saved under the branch's name, and the rates jump back, but for the last. The dials are
those of `WsdS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

from thalweg.controllers.reading import dial_in, rates_in
from thalweg.core.dials import From
from thalweg.core.protocols import Action, Context, Save, Schedule, Set, State, Trial
from thalweg.core.time import Span, Time, share
from thalweg.errors import RecipeError
from thalweg.schedules import OneMinusSqrt, Times, TrunkFork
from thalweg.schedules.clock import check_shape, check_span

__all__ = ["DecayBranches"]


@dataclass(frozen=True)
class DecayBranches:
    """Let the learning rates decay towards each target, from a trunk that stays as it is.

    A decay ends at its target and takes `decay` of its length. Rates go from what they are to 0
    (or as `shape` says). The branch of target 1000 is kept as `branches/decayed@1000`.

    Source: arXiv:2405.18392 (branches), arXiv:2410.05192 (going on from the branch),
    arXiv:2506.20512 (branches over different data).

    Example:
        >>> from thalweg.core.time import steps
        >>> found = DecayBranches(targets=(1000, 2000), decay=share(0.2))
        >>> found.decays(Time(0, steps=2000))
        [TrunkFork(step=800, steps=200), TrunkFork(step=1600, steps=400)]
    """

    targets: tuple[int | Span, ...]
    """Moments of the phase at which decays end, rising: steps, or lengths with a unit."""
    decay: Span = share(0.1)
    """Length of a decay; a share is one of its target, or with ``then="branch"`` of its cycle."""
    shape: Schedule[Any] = OneMinusSqrt(1.0)  # frozen
    """From 1 to the end, as a share of the rate, on the clock of the decay."""
    then: Literal["trunk", "branch"] = "trunk"
    """What the run goes on from after a target: the weights before the decay, or the decayed."""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Branches by name, each with what else it sets, such as ``{"source.weights": {...}}``."""
    paths: tuple[str, ...] = ()
    """What decays; every learning rate if empty."""

    def __post_init__(self) -> None:
        """Refuse targets that are none, and shapes that do not start at 1.

        Raises:
            DialError: A shape or a length that cannot be.
            RecipeError: No targets, or variants where there is one line of weights.
        """
        check_span(self, "decay", self.decay, empty=False)
        check_shape(self, "shape", self.shape)
        if not self.targets or (self.variants and self.then == "branch"):
            raise RecipeError(
                f"{len(self.targets)} targets, {len(self.variants)} variants, then='{self.then}'",
                expected="at least one target; variants only where the trunk goes on",
                where="DecayBranches",
                write="targets=(1000, 2000)",
            )

    def decays(self, time: Time) -> list[TrunkFork]:
        """Return the decays on the clock of a phase.

        Raises:
            RecipeError: Targets that do not rise, or a decay that rounds to no step.
        """
        ends = [t.of(time) if isinstance(t, Span) else t for t in self.targets]
        starts = [0, *ends[:-1]] if self.then == "branch" else [0] * len(ends)
        spans = [
            self.decay.of(Time(0, end - start, batch_tokens=time.batch_tokens))
            for start, end in zip(starts, ends, strict=True)
        ]
        rising = all(a < b for a, b in pairwise([0, *ends]))
        found = [TrunkFork(end - span, span) for end, span in zip(ends, spans, strict=True)]
        fits = all(s < f.step < f.step + f.steps for s, f in zip(starts, found, strict=True))
        last = found[-1].step if self.then == "trunk" else ends[-1]
        if not rising or not fits or (time.steps is not None and last > time.steps):
            raise RecipeError(
                f"targets at steps {ends} with decays of {spans} steps, in {time.steps} steps",
                expected="rising targets, decays of at least a step, each with a step before it, "
                "all within the phase",
                where="DecayBranches",
                write="DecayBranches((1000, 2000), decay=share(0.1))",
            )
        return found

    def start(self, ctx: Context) -> State:
        """Return {tried: branches of this step so far, rates: those of the trunk in a decay}."""
        self.decays(ctx.time)
        return {"tried": 0, "rates": {}}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Begin the decays that begin now, and with ``then="branch"`` end those that end."""
        done = int(ctx.time.step) + 1
        found = self.decays(ctx.time)
        if self.then == "branch":
            return self._go_on(state, ctx, done, found)
        trials = [
            Trial(self._values(ctx, fork, more), fork.steps, keep=name)
            for fork in found
            if fork.step == done
            for name, more in self._branches(fork).items()
        ]
        tried = state["tried"] + 1 if ctx.trial else 0
        if ctx.trial:
            self._tell(ctx, trials[tried - 1])
        return tuple(trials[tried : tried + 1]), {**state, "tried": tried}

    def _go_on(
        self, state: State, ctx: Context, done: int, found: Sequence[TrunkFork]
    ) -> tuple[Sequence[Action], State]:
        actions: list[Action] = []
        for fork in found:
            if fork.step + fork.steps == done:
                actions.append(Save(f"decayed@{done}"))
            if fork.step + fork.steps == done and fork != found[-1]:
                actions.append(Set(state["rates"]))
        for fork in found:
            if fork.step == done:
                state = {**state, "rates": self._rates(ctx)}
                actions.append(Set(self._values(ctx, fork, {})))
        return tuple(actions), state

    def _branches(self, fork: TrunkFork) -> dict[str, Mapping[str, Any]]:
        name = f"decayed@{fork.step + fork.steps}"
        return {f"{name}-{v}": more for v, more in self.variants.items()} or {name: {}}

    def _rates(self, ctx: Context) -> dict[str, float]:
        report = ctx.last["report"]
        return {p: dial_in(report, p) for p in self.paths} if self.paths else rates_in(report)

    def _values(self, ctx: Context, fork: TrunkFork, more: Mapping[str, Any]) -> dict[str, Any]:
        shape = From(self.shape, 0, fork.steps)
        return {path: Times(shape, rate) for path, rate in self._rates(ctx).items()} | dict(more)

    def _tell(self, ctx: Context, trial: Trial) -> None:
        before, after = ctx.last["report"]["loss"], ctx.trial[-1]["loss"]
        ctx.note("branch", f"{trial.keep}: loss {after:.4g} after the decay, {before:.4g} before")
