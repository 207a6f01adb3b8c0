"""Optimizers as frozen specs, and what turns a spec into torch optimizers.

Every number of a spec is a dial: it may be a schedule until the loop freezes it. There is no
scheduler object: the learning rate is an argument of the step, `Optimizers.set(spec)` writes the
frozen numbers of this step into torch's parameter groups.

Which parameter goes where depends on the kinds and patterns of the spec, never on its numbers, so
the moments of a run fit whatever its dials do. Weight decay is applied to tensors of two or more
dimensions only (embeddings included): norms, biases and other vectors get 0.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatchcase
from math import inf, isfinite
from typing import Any, Literal, NamedTuple, TypeAlias, final

import torch
from torch import nn

from thalweg.core.protocols import Dial, Schedule
from thalweg.errors import DialError, RecipeError, did_you_mean

__all__ = ["SGD", "AdamW", "Groups", "Muon", "OptimizerSpec", "Optimizers", "build", "rates"]

Named: TypeAlias = Sequence[tuple[str, nn.Parameter]]
"""Parameters with their names in the model."""


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay.

    m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; with both divided by 1 - b^t:
    w = w (1 - lr weight_decay) - lr m / (sqrt(v) + eps). Torch's fused kernel where there is one.

    Source: arXiv:1711.05101, algorithm 2. Defaults: arXiv:2005.14165, appendix B.

    Example:
        >>> AdamW(lr=3e-4).betas
        (0.9, 0.95)
    """

    lr: Dial
    """Learning rate, at least 0."""
    betas: tuple[Dial, Dial] = (0.9, 0.95)
    """Decay of the first and second moment, in [0, 1)."""
    eps: Dial = 1e-8
    """Added to the root of the second moment, above 0."""
    weight_decay: Dial = 0.1
    """Share of a weight that goes per step, in units of lr; tensors of 2 dimensions and more."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range; schedules are checked when they are frozen."""
        _check(self, "lr", self.lr)
        if len(self.betas) != 2:
            raise _misfit(f"betas = {self.betas!r}", "two numbers", "betas=(0.9, 0.95)")
        for number, beta in enumerate(self.betas):
            _check(self, f"betas.{number}", beta, below=1.0)
        _check(self, "eps", self.eps, above=0.0)
        _check(self, "weight_decay", self.weight_decay)


@dataclass(frozen=True)
class SGD:
    """Gradient descent, with momentum if wanted.

    g = g + weight_decay w; b = momentum b + g; w = w - lr b (nesterov: w - lr (g + momentum b)).
    The weight decay is part of the gradient, as in torch: it is not decoupled.

    Source: torch.optim.SGD, dampening 0.
    """

    lr: Dial
    """Learning rate, at least 0."""
    momentum: Dial = 0.0
    """In [0, 1)."""
    _: KW_ONLY
    nesterov: bool = False
    """Whether to look ahead along the momentum. Part of the structure, not a dial."""
    weight_decay: Dial = 0.0
    """Factor of the weight in its gradient; tensors of 2 dimensions and more."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range; schedules are checked when they are frozen."""
        _check(self, "lr", self.lr)
        _check(self, "momentum", self.momentum, below=1.0)
        _check(self, "weight_decay", self.weight_decay)


@dataclass(frozen=True)
class Muon:
    """Momentum, orthogonalised, for the hidden matrices; `adam` for everything else.

    b = momentum b + (1 - momentum) g; o = orthogonalised b (nesterov: g + momentum (b - g)) by 5
    Newton-Schulz steps in bfloat16; w = w (1 - lr weight_decay) - lr scale o.

    Hidden matrices are parameters of exactly two dimensions whose name matches no pattern of
    `others`. Vectors, embeddings, the head and stacked experts go to `adam`, which has no default:
    the two rates differ by orders of magnitude, and both want a schedule. A fused matrix (queries,
    keys and values in one) is orthogonalised as one. Sharded and whole runs differ by bfloat16's
    rounding.

    Source: torch.optim.Muon; kellerjordan.github.io/posts/muon; scale: arXiv:2502.16982.
    """

    lr: Dial
    """Learning rate of the matrices, at least 0; about 0.02 with the original scale."""
    _: KW_ONLY
    adam: AdamW
    """For all other parameters."""
    momentum: Dial = 0.95
    """In [0, 1)."""
    weight_decay: Dial = 0.0
    """Share of a weight that goes per step, in units of lr."""
    nesterov: bool = True
    """Whether to look ahead along the momentum. Part of the structure, not a dial."""
    scale: Literal["original", "match_rms_adamw"] = "original"
    """sqrt(max(1, rows / columns)), or 0.2 sqrt(max(rows, columns)), which suits AdamW's rates."""
    others: tuple[str, ...] = ("*embed*", "*wte*", "*wpe*", "*lm_head*", "head.*", "*.head.*")
    """Name patterns of matrices that are not hidden: embeddings and the head."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range; schedules are checked when they are frozen."""
        _check(self, "lr", self.lr)
        _check(self, "momentum", self.momentum, below=1.0)
        _check(self, "weight_decay", self.weight_decay)


@dataclass(frozen=True)
class Groups:
    """Another spec for each group of parameters: the first pattern that matches a name wins.

    Patterns are shell patterns (`*` also crosses dots). The order of the mapping is the order of
    the rules; end with ``"*"``. Every parameter must match, and every pattern must get one.

    Example:
        >>> spec = Groups({"*.bias": SGD(lr=0.1), "*": AdamW(lr=1e-3)})
        >>> rates(spec)
        {'groups.*.bias.lr': 0.1, 'groups.*.lr': 0.001}
    """

    groups: Mapping[str, "OptimizerSpec"]
    """Spec by name pattern."""

    def __post_init__(self) -> None:
        """Refuse an empty mapping and what is no spec."""
        known = all(isinstance(s, AdamW | SGD | Muon | Groups) for s in self.groups.values())
        if not self.groups or not known:
            raise _misfit(
                f"Groups({self.groups!r})",
                "AdamW, SGD, Muon or Groups for at least one pattern",
                'Groups({"*": AdamW(lr=1e-3)})',
            )


OptimizerSpec: TypeAlias = AdamW | SGD | Muon | Groups
"""What may stand in `Learn.optimizer`."""

Leaf: TypeAlias = AdamW | SGD | Muon


class _Slot(NamedTuple):
    """Where the numbers of a leaf go: group `group` of the torch optimizer `kind`."""

    path: str  # of the leaf inside the spec: '' or 'adam' or 'groups.*.bias'
    kind: str
    group: int
    decays: bool  # whether these tensors get weight decay


@final
class Optimizers:
    """The torch optimizers of one model, made by `build`."""

    def __init__(
        self,
        spec: OptimizerSpec,
        optimizers: Mapping[str, torch.optim.Optimizer],
        slots: Sequence[_Slot],
    ) -> None:
        self._structure = _structure(spec)
        self._optimizers = dict(optimizers)
        self._slots = tuple(slots)
        self.set(spec)

    @property
    def torch_optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """What torch has: at most one AdamW, one SGD and one Muon. Their state is torch's own."""
        return tuple(self._optimizers.values())

    def fits(self, spec: OptimizerSpec) -> bool:
        """Return whether a spec differs from the one it was built from in numbers only."""
        return _structure(spec) == self._structure

    def set(self, spec: OptimizerSpec) -> None:
        """Write the numbers of this step from a spec like the one it was built from, frozen.

        Raises:
            RecipeError: Another kind of optimizer, other patterns, another `nesterov` ...
            DialError: A number is still a schedule.
        """
        if not self.fits(spec):
            raise _misfit(
                f"a spec of structure {_structure(spec)}",
                f"the structure it was built with, {self._structure}: its moments belong to it",
                "numbers may change from step to step; kinds and patterns only in a new phase",
            )
        leaves = dict(_leaves(spec))
        for path, kind, number, decays in self._slots:
            group = self._optimizers[kind].param_groups[number]
            group.update(_numbers(leaves[path], path, decays=decays))

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for optimizer in self._optimizers.values():
            optimizer.step()

    def zero(self) -> None:
        """Drop every gradient."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)


def build(spec: OptimizerSpec, named: Named) -> Optimizers:
    """Return the optimizers of these parameters. Frozen parameters are left out.

    Args:
        spec: Frozen: every dial is a number.
        named: What `model.named_parameters()` gives; DTensors (FSDP2) too.

    Raises:
        RecipeError: A parameter matches no pattern, a pattern gets no parameter, or there is
            nothing to train.
        DialError: A number is still a schedule.

    Example:
        >>> optimizers = build(SGD(lr=0.1), list(nn.Linear(2, 2).named_parameters()))
        >>> [group["lr"] for group in optimizers.torch_optimizers[0].param_groups]
        [0.1, 0.1]
    """
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    if not trained:
        raise _misfit(
            f"{len(named)} parameters, none of which trains",
            "at least one parameter with requires_grad",
            "Learn on a model that is not frozen",
        )
    groups: dict[str, list[dict[str, Any]]] = {}
    slots: list[_Slot] = []
    for path, leaf, mine in _assign(spec, trained, ""):
        kind = type(leaf).__name__
        for decays in (True, False):
            tensors = [p for _, p in mine if (p.ndim >= 2) == decays]
            if tensors:
                slots.append(_Slot(path, kind, len(groups.setdefault(kind, [])), decays))
                fixed = {"params": tensors, **_fixed(leaf)}
                groups[kind].append({**fixed, **_numbers(leaf, path, decays=decays)})
    return Optimizers(spec, {kind: _torch(kind, made) for kind, made in groups.items()}, slots)


def rates(spec: OptimizerSpec) -> dict[str, float]:
    """Return every learning rate of a frozen spec by its path inside the spec.

    Example:
        >>> rates(Muon(lr=0.02, adam=AdamW(lr=3e-4)))
        {'lr': 0.02, 'adam.lr': 0.0003}
    """
    return {_join(path, "lr"): _frozen(leaf.lr, _join(path, "lr")) for path, leaf in _leaves(spec)}


def _leaves(spec: OptimizerSpec, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Yield every leaf with its path. A Muon is the leaf of its matrices."""
    if isinstance(spec, Groups):
        for pattern, inner in spec.groups.items():
            yield from _leaves(inner, _join(path, f"groups.{pattern}"))
        return
    yield path, spec
    if isinstance(spec, Muon):
        yield from _leaves(spec.adam, _join(path, "adam"))


def _structure(spec: OptimizerSpec) -> tuple[object, ...]:
    """Return all of a spec but its numbers."""
    if isinstance(spec, Groups):
        return ("Groups", *((pattern, _structure(one)) for pattern, one in spec.groups.items()))
    if isinstance(spec, Muon):
        return ("Muon", spec.nesterov, spec.scale, tuple(spec.others))
    return ("SGD", spec.nesterov) if isinstance(spec, SGD) else ("AdamW",)


def _assign(spec: OptimizerSpec, named: Named, path: str) -> Iterator[tuple[str, Leaf, Named]]:
    """Yield (path, leaf, its parameters)."""
    if isinstance(spec, Groups):
        for pattern, mine in _match(spec, named, path).items():
            yield from _assign(spec.groups[pattern], mine, _join(path, f"groups.{pattern}"))
    elif isinstance(spec, Muon):
        kept = {n for n, _ in named if any(fnmatchcase(n, other) for other in spec.others)}
        hidden = [(n, p) for n, p in named if p.ndim == 2 and n not in kept]
        if not hidden:
            raise _misfit(
                f"Muon for {', '.join(name for name, _ in named[:5])} ...",
                f"a matrix whose name matches none of {spec.others}",
                "AdamW for these parameters, or narrower patterns in Muon.others",
            )
        yield path, spec, hidden
        rest = [(n, p) for n, p in named if p.ndim != 2 or n in kept]
        if rest:
            yield _join(path, "adam"), spec.adam, rest
    else:
        yield path, spec, named


def _match(spec: Groups, named: Named, path: str) -> dict[str, list[tuple[str, nn.Parameter]]]:
    found: dict[str, list[tuple[str, nn.Parameter]]] = {pattern: [] for pattern in spec.groups}
    where = _join("optimizer", _join(path, "groups"))
    for name, parameter in named:
        pattern = next((p for p in spec.groups if fnmatchcase(name, p)), None)
        if pattern is None:
            raise _misfit(
                f"parameter '{name}', which matches none of {list(spec.groups)}",
                "a pattern for every parameter",
                'a last pattern "*"',
                where,
            )
        found[pattern].append((name, parameter))
    for pattern, mine in found.items():
        if not mine:
            raise _misfit(
                f"pattern '{pattern}', which gets no parameter",
                "patterns that match a trained parameter which no earlier pattern took",
                did_you_mean(pattern, [name for name, _ in named]),
                where,
            )
    return found


def _fixed(leaf: Leaf) -> dict[str, object]:
    if isinstance(leaf, Muon):
        return {"nesterov": leaf.nesterov, "adjust_lr_fn": leaf.scale}
    return {"nesterov": leaf.nesterov} if isinstance(leaf, SGD) else {}


def _numbers(leaf: Leaf, path: str, *, decays: bool) -> dict[str, float | tuple[float, ...]]:
    """Return the numbers of a leaf as torch's parameter groups name them."""
    decay = _frozen(leaf.weight_decay, _join(path, "weight_decay")) if decays else 0.0
    numbers: dict[str, float | tuple[float, ...]] = {"weight_decay": decay}
    numbers["lr"] = _frozen(leaf.lr, _join(path, "lr"))
    if isinstance(leaf, AdamW):
        betas = [_frozen(b, _join(path, f"betas.{i}")) for i, b in enumerate(leaf.betas)]
        return numbers | {"betas": tuple(betas), "eps": _frozen(leaf.eps, _join(path, "eps"))}
    return numbers | {"momentum": _frozen(leaf.momentum, _join(path, "momentum"))}


def _torch(kind: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if kind == "Muon":
        return torch.optim.Muon(groups)
    if kind == "SGD":
        return torch.optim.SGD(groups)
    tensors = [tensor for group in groups for tensor in group["params"]]
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in tensors)
    return torch.optim.AdamW(groups, fused=fused or None)


def _frozen(value: Dial, path: str) -> float:
    if isinstance(value, Schedule):
        raise DialError(
            f"{path} = {value!r}",
            expected="a number: schedules are frozen before an optimizer sees them",
            where=f"optimizer.{path}",
            write="at(spec, time) first",
        )
    return float(value)


def _check(
    owner: object, field: str, value: Dial, *, above: float = -inf, below: float = inf
) -> None:
    if isinstance(value, Schedule):
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and isfinite(value) and value >= 0 and above < value < below:
        return
    limits = ["above 0" if above == 0 else "at least 0"] + ["below 1"] * (below == 1)
    raise DialError(
        f"{field} = {value!r}",
        expected=f"a finite number {' and '.join(limits)}, or a schedule",
        where=f"{type(owner).__name__}.{field}",
        write=f"{field}=1e-3" if field in ("lr", "eps") else f"{field}=0.9",
    )


def _misfit(given: str, expected: str, write: str, where: str = "optimizer") -> RecipeError:
    return RecipeError(given, expected=expected, where=where, write=write)


def _join(path: str, piece: str) -> str:
    return f"{path}.{piece}" if path else piece
