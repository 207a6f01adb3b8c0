"""Groups: another spec for each group of parameters, by the names they have in the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from thalweg.optim.values import Leaf, misfit

__all__ = ["Groups", "refuse_inner"]


@dataclass(frozen=True)
class Groups:
    """Another spec for each group of parameters: the first pattern that matches a name wins.

    Patterns are shell patterns (`*` also crosses dots). The order of the mapping is the order of
    the rules; end with ``"*"``. Every parameter must match, and every pattern must get one.

    Example:
        >>> from thalweg.optim import SGD, AdamW, rates
        >>> spec = Groups({"*.bias": SGD(lr=0.1), "*": AdamW(lr=1e-3)})
        >>> rates(spec)
        {'groups.*.bias.lr': 0.1, 'groups.*.lr': 0.001}
    """

    groups: Mapping[str, "Leaf | Groups"]
    """Spec by name pattern."""

    def __post_init__(self) -> None:
        """Refuse what is no mapping of patterns to specs, and an empty one."""
        rules = self.groups.items() if isinstance(self.groups, Mapping) else ()
        known = all(
            isinstance(k, str) and (isinstance(spec, Groups) or _is_leaf(spec)) for k, spec in rules
        )
        if not rules or not known:
            raise misfit(
                f"Groups({self.groups!r})",
                "AdamW, SGD, Muon, another optimizer or Groups for at least one pattern",
                'Groups({"*": AdamW(lr=1e-3)})',
            )


def refuse_inner(owner: object, inner: object) -> None:
    """Refuse to wrap what is no spec, or what must have its parameters to itself.

    Raises:
        RecipeError: It is ScheduleFree, Prodigy, DoG or another wrapper, or holds one.
    """
    parts = inner.groups.values() if isinstance(inner, Groups) else ()
    for part in parts:
        refuse_inner(owner, part)
    if not parts and (not _is_leaf(inner) or inner.alone):
        name = type(owner).__name__
        raise misfit(
            f"{name}({inner!r})",
            "AdamW, NAdamW, SGD, Muon, or Groups of them: nobody else may move their parameters",
            f"{name}(AdamW(lr=1e-3))",
            f"{name}.inner",
        )


def _is_leaf(value: object) -> TypeGuard[Leaf]:
    """Return whether it is a spec of one algorithm; its class has all the members, and is none."""
    return isinstance(value, Leaf) and not isinstance(value, type)
