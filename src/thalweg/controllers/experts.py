"""Experts that receive no token: named in the run's events, with the step since when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thalweg.core.protocols import Action, Context, State
from thalweg.errors import RecipeError
from thalweg.schedules.clock import check_number

__all__ = ["IdleExperts"]


@dataclass(frozen=True)
class IdleExperts:
    """Note every expert that no counted token has chosen for `patience` steps, once; do nothing.

    Reads `load/LAYER/EXPERT`, which `Balanced` reports. An expert that is chosen again is noted
    too. Remedies are the balance loss, a bias (`Rebias`), or a smaller rate for the router.
    """

    model: str = "policy"
    patience: int = 100
    """Steps."""

    def __post_init__(self) -> None:
        """Refuse less than one step.

        Raises:
            DialError: Below 1.
        """
        check_number(self, "patience", self.patience, low=1)

    def start(self, ctx: Context) -> State:
        """Return {"LAYER/EXPERT": first step without a token}, empty."""
        return {}

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return no action, and since when each idle expert is idle.

        Raises:
            RecipeError: The first step reported no loads: this would be silent for ever.
        """
        step = int(ctx.time.run_step) + 1
        counts = _counts(ctx.last["report"], self.model)
        if not counts and int(ctx.time.step) == 0:
            raise RecipeError(
                f"no load/LAYER/EXPERT of '{self.model}' in the report",
                expected="a model with experts that learns with Balanced",
                where="controllers.IdleExperts",
                write=f"Learn('{self.model}', Balanced(NextToken(), balance=None), ...)",
            )
        since = {name: state.get(name, step) for name, count in counts.items() if count == 0.0}
        for name, first in since.items():
            if step - first + 1 == self.patience:
                ctx.note("idle expert", f"{_called(name)} has received no token since step {first}")
        for name, first in state.items():
            if counts.get(name) and step - first >= self.patience:
                text = f"{_called(name)} receives tokens again, the first since step {first}"
                ctx.note("idle expert", text)
        return (), since


def _counts(report: Mapping[str, float], model: str) -> dict[str, float]:
    for prefix in (f"{model}/load/", "load/"):
        found = {
            name.removeprefix(prefix): value
            for name, value in report.items()
            if name.startswith(prefix)
        }
        if found:
            return found
    return {}


def _called(name: str) -> str:
    layer, expert = name.split("/")
    return f"expert {expert} of layer {layer}"
