"""What controllers read: dials by path, all learning rates, losses by name, and the clock."""

from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.core.time import Span, Time
from thalweg.errors import RecipeError, did_you_mean

__all__ = ["dial_in", "is_due", "losses_in", "rates_in"]


def dial_in(report: Mapping[str, float], path: str) -> float:
    """Return the value that a dial had, by its path or the unique ending of one.

    Args:
        report: ``ctx.last["report"]``: has every schedule, learning rate and override.
        path: As it would be written in a Set.

    Raises:
        RecipeError: No dial, or more than one, ends like this.

    Example:
        >>> dial_in({"loss": 2.0, "dial/learn.policy.optimizer.lr": 0.1}, "lr")
        0.1
    """
    known = {
        name.removeprefix("dial/"): v for name, v in report.items() if name.startswith("dial/")
    }
    found = [name for name in known if name == path or name.endswith("." + path)]
    if len(found) != 1:
        raise RecipeError(
            f"'{path}', which ends {len(found)} dials of the report",
            expected="a learning rate, a schedule or a dial that was set before",
            where="the controller's path",
            write="one of: " + ", ".join(found) if found else did_you_mean(path, known),
        )
    return known[found[0]]


def rates_in(report: Mapping[str, float]) -> dict[str, float]:
    """Return every learning rate of the report by its path.

    Example:
        >>> rates_in({"loss": 2.0, "dial/learn.policy.optimizer.lr": 0.1, "dial/rows": 8})
        {'learn.policy.optimizer.lr': 0.1}
    """
    return {
        name.removeprefix("dial/"): value
        for name, value in report.items()
        if name.startswith("dial/learn.") and ".optimizer." in name and name.endswith(".lr")
    }


def losses_in(report: Mapping[str, Any], before: str, names: Sequence[str]) -> dict[str, float]:
    """Return the losses of `names` that a report has, under `before` and the name.

    Example:
        >>> losses_in({"heldout/loss/web": 2.0}, "heldout/loss/", ("web", "code"))
        {'web': 2.0}
    """
    return {name: float(report[before + name]) for name in names if before + name in report}


def is_due(every: Span | int, time: Time) -> bool:
    """Return whether the step that was just done ends a round of length `every`.

    Example:
        >>> is_due(10, Time(9, 100)), is_due(10, Time(10, 100))
        (True, False)
    """
    length = every.of(time) if isinstance(every, Span) else int(every)
    return (int(time.step) + 1) % max(length, 1) == 0
