"""From a frozen spec to torch optimizers, and this step's numbers into their groups."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import nn

from thalweg.optim.assign import OptimizerSpec, assign, leaves, structure
from thalweg.optim.mechanic import Mechanic
from thalweg.optim.plain import Muon
from thalweg.optim.project import Projected
from thalweg.optim.values import (
    Averaging,
    Group,
    Leaf,
    Named,
    Place,
    Preparing,
    Widening,
    frozen,
    join,
    misfit,
)

__all__ = ["Optimizers", "build", "rates"]


class _Slot(NamedTuple):
    """Where the numbers of a spec go: group `group` of the torch optimizer `key`."""

    place: Place
    key: str
    group: int


@final
class Optimizers:
    """The torch optimizers of one model, made by `build`."""

    def __init__(
        self,
        spec: OptimizerSpec,
        optimizers: Mapping[str, torch.optim.Optimizer],
        slots: Sequence[_Slot],
        moving: Sequence[str],
    ) -> None:
        self._structure = structure(spec)
        self._moving = tuple(moving)
        self._optimizers = dict(optimizers)
        self._slots = tuple(slots)
        self.set(spec)

    @property
    def torch_optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """What torch has, in the order in which they step; their state is torch's own.

        At most one AdamW, NAdamW, SGD and Muon; one for each other spec, wrappers last.
        """
        return tuple(self._optimizers.values())

    @property
    def moving(self) -> tuple[torch.optim.Optimizer, ...]:
        """Those that take gradients: every parameter stands in one of them."""
        return tuple(self._optimizers[key] for key in self._moving)

    def fits(self, spec: OptimizerSpec) -> bool:
        """Return whether a spec differs from the one it was built from in numbers only."""
        return structure(spec) == self._structure

    def set(self, spec: OptimizerSpec) -> None:
        """Write the numbers of this step from a spec like the one it was built from, frozen.

        Raises:
            RecipeError: Another kind of optimizer, other patterns, another `nesterov` ...
            DialError: A number is still a schedule.
        """
        if not self.fits(spec):
            raise misfit(
                f"a spec of structure {structure(spec)}",
                f"the structure it was built with, {self._structure}: its moments belong to it",
                "numbers may change from step to step; kinds and patterns only in a new phase",
            )
        found = dict(leaves(spec))
        for place, key, number in self._slots:
            group = self._optimizers[key].param_groups[number]
            group.update(found[place.path].numbers(place))

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for optimizer in self._optimizers.values():
            if isinstance(optimizer, Preparing):
                optimizer.before()
        for optimizer in self._optimizers.values():
            optimizer.step()

    def zero(self) -> None:
        """Drop every gradient."""
        for optimizer in self.moving:
            optimizer.zero_grad(set_to_none=True)

    def averages(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return parameters whose model answers with an average, and the averages, as copies."""
        kinds = [one for one in self._optimizers.values() if isinstance(one, Averaging)]
        return [pair for one in kinds for pair in one.averages()]


def build(
    spec: OptimizerSpec, named: Named, widening: Mapping[str, Widening] | None = None
) -> Optimizers:
    """Return the optimizers of these parameters. Frozen parameters are left out.

    Args:
        spec: Frozen: every dial is a number.
        named: What `model.named_parameters()` gives; DTensors (FSDP2) too.
        widening: How parameters grow with the model's width, by name; none do if not given.

    Raises:
        RecipeError: A parameter matches no pattern, a pattern gets no parameter, or there is
            nothing to train.
        DialError: A number is still a schedule.

    Example:
        >>> from thalweg.optim import SGD
        >>> optimizers = build(SGD(lr=0.1), list(nn.Linear(2, 2).named_parameters()))
        >>> [group["lr"] for group in optimizers.torch_optimizers[0].param_groups]
        [0.1, 0.1]
    """
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    if not trained:
        raise misfit(
            f"{len(named)} parameters, none of which trains",
            "at least one parameter with requires_grad",
            "Learn on a model that is not frozen",
        )
    groups: dict[str, list[Group]] = {}
    makers: dict[str, Leaf] = {}
    slots: list[_Slot] = []
    for path, leaf, mine in assign(spec, trained):
        key = f"{type(leaf).__name__} {path}" if leaf.alone else type(leaf).__name__
        makers.setdefault(key, leaf)
        for place, tensors in _split(path, mine, widening or {}).items():
            slots.append(_Slot(place, key, len(groups.setdefault(key, []))))
            groups[key].append({"params": tensors, **leaf.numbers(place)})
    made = {key: makers[key].algorithm(some) for key, some in groups.items()}
    moving = [key for key, leaf in makers.items() if not isinstance(leaf, Mechanic | Projected)]
    return Optimizers(spec, made, slots, moving)


def rates(spec: OptimizerSpec) -> dict[str, float]:
    """Return every learning rate of a frozen spec by its path inside the spec.

    Not what follows another rate: `adam` of a `Muon` that moves both together.

    Example:
        >>> from thalweg.optim import AdamW, Muon
        >>> rates(Muon(lr=0.02, adam=AdamW(lr=3e-4)))
        {'lr': 0.02, 'adam.lr': 0.0003}
    """
    found = dict(leaves(spec))
    following = {join(p, "adam") for p, x in found.items() if isinstance(x, Muon) and x.together}
    return {
        join(path, name): frozen(lr, join(path, name))
        for path, leaf in found.items()
        if path not in following
        for name, lr in leaf.rates.items()
    }


def _split(
    path: str, named: Named, widening: Mapping[str, Widening]
) -> dict[Place, list[nn.Parameter]]:
    """Return parameters that share their numbers: by weight decay and by width."""
    found: dict[Place, list[nn.Parameter]] = {}
    for decays in (True, False):
        for name, parameter in named:
            if (parameter.ndim >= 2) == decays:
                place = Place(path, decays, widening.get(name, Widening()))
                found.setdefault(place, []).append(parameter)
    return found
