"""The state of a run: plain data, everything but weights and moments.

Resume loads it, rollback keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from thalweg.core.protocols import State
from thalweg.core.time import Time
from thalweg.errors import RecipeError

__all__ = ["RunState", "check_state"]


@dataclass(frozen=True)
class RunState:
    """Where a run is. Survives JSON unchanged."""

    phase: int = 0
    """Index of the phase."""
    step: int = 0
    """Steps done in the phase."""
    run_step: int = 0
    """Steps done in the run."""
    tokens: int = 0
    """Target tokens consumed in the phase."""
    run_tokens: int = 0
    """Target tokens consumed in the run, trials left out."""
    trial_tokens: int = 0
    """Target tokens spent on trials that were rolled back."""
    delivered: Mapping[str, int] = field(default_factory=dict)
    """Target tokens by source, over the run."""
    source: State = None
    """Of the phase's source; None before the phase has started."""
    controllers: State = None
    """Of the phase's controllers, by position; None before the phase has started."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Path in the phase -> record of the value that a controller set."""
    journal: tuple[tuple[int, str, Any], ...] = ()
    """(run step, path, record) of every Set: replaying it needs no controller."""
    last: Mapping[str, Any] = field(default_factory=dict)
    """The report of the step before."""
    ended: bool = False
    """Whether a controller ended the phase."""
    stopped: str = ""
    """Why a controller ended the run; empty while it goes on."""

    def time(self, steps: int | None, batch_tokens: int) -> Time:
        """Return the moment the next step belongs to."""
        return Time(self.step, steps, self.tokens, self.run_step, batch_tokens)

    def next_phase(self) -> "RunState":
        """Return the state before the next phase has started."""
        return replace(
            self, phase=self.phase + 1, step=0, tokens=0, source=None, controllers=None,
            overrides={}, ended=False,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return plain data that json can write; tensors as their type, shape and values.

        Raises:
            RecipeError: A part's state is no plain data.
        """
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        named["journal"] = [list(entry) for entry in self.journal]
        return {name: _written(value, name) for name, value in named.items()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "RunState":
        """Return the state that `to_json` described."""
        journal = tuple((int(step), str(path), value) for step, path, value in data["journal"])
        return RunState(**{**_read(data), "journal": journal})


def check_state(state: State, part: object) -> None:
    """Refuse a part's state that would not be the same when the run is resumed.

    Args:
        state: What its `start`, `next` or `act` returned.
        part: The source or controller, for the error.

    Raises:
        RecipeError: It is not made of None, bools, numbers, text, tensors, lists of them, and
            mappings of them by text.
    """
    _written(state, f"the state of {type(part).__name__}")


def _written(value: Any, where: str) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return {"$tensor": kind, "shape": [*value.shape], "values": value.flatten().tolist()}
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: _written(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_written(item, f"{where}.{number}") for number, item in enumerate(value)]
    mapping = isinstance(value, Mapping)
    raise RecipeError(
        f"keys {[*value]!r:.80}" if mapping else f"{value!r:.80}, a {type(value).__name__}",
        expected="plain data, which is the same after a resume: None, bools, int, float, text, "
        "tensors, lists, mappings by text",
        where=where,
        write="{str(key): value, ...}" if mapping else "int(...), float(...), [*...], .tolist()",
    )


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        if "$tensor" in value:
            kind = getattr(torch, value["$tensor"])
            return torch.tensor(value["values"], dtype=kind).reshape(value["shape"])
        return {key: _read(item) for key, item in value.items()}
    return [_read(item) for item in value] if isinstance(value, list) else value
