"""What differs silently between libraries, said aloud: the choices of a phase, line by line.

Two libraries' GRPO differ in the mean, the deviation's n and eps, the KL and its weight, the clip,
the sampler's correction. A recipe prints these lines at the start of a run; what is absent is said
too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from thalweg.core.moves import NEVER, Copy, Learn, Score
from thalweg.core.protocols import Objective
from thalweg.core.recipe import Phase
from thalweg.core.weigh import AsGiven, Each, PerRow, RowMean, TokenMean, Weigh
from thalweg.objectives.auxiliary import Entropy, Sum
from thalweg.objectives.credit import Correct, Filter
from thalweg.objectives.divergence import KlToReference
from thalweg.objectives.policy import Policy
from thalweg.objectives.preference import Preference

__all__ = ["choices", "short"]

_MEANS: Mapping[type, str] = {
    TokenMean: "mean over all targets of the step",
    RowMean: "mean over each answer, then over answers",
    PerRow: "sum over targets / (answers * length), a constant",
    AsGiven: "as the source or a move gave them",
}


def choices(phase: Phase) -> list[str]:
    r"""Return one line for each choice that changes results, absences included.

    Example:
        >>> from thalweg.data import Corpus
        >>> from thalweg.objectives.papers import dapo
        >>> from thalweg.optim import SGD
        >>> lines = choices(Phase(1, Corpus("x"), dapo().do("policy", SGD(lr=0.1))))
        >>> print("\n".join(lines[:3]))
        credit.advantages: Advantages(baseline='mean', scale='group', eps=1e-06, population=False)
        credit.filter: Filter(low=-inf, high=inf, spread=True)
        learn.policy: passes=1, minibatch=None, clip=1.0
    """
    lines: list[str] = []
    for move in phase.do:
        if isinstance(move, Learn):
            lines += _of_learn(move)
        elif isinstance(move, Copy):
            often = "never" if move.every == NEVER else f"every {move.every} steps"
            lines.append(f"{move.name}: from {move.src}, {often}, mix={move.mix}")
        else:
            shown = short(move) if isinstance(move, Score) else repr(move)
            lines.append(f"{move.name}: {shown}")
    learns = [move for move in phase.do if isinstance(move, Learn)]
    return lines + list(_absent(phase, [part for m in learns for _, part, _ in _parts(m)]))


def short(part: Any) -> str:
    """Return a part as it would be written, without what is at its default.

    Example:
        >>> short(TokenMean()), short(PerRow(8.0))
        ('TokenMean()', 'PerRow(length=8.0)')
    """
    if isinstance(part, Mapping):
        return "{" + ", ".join(f"{k!r}: {short(v)}" for k, v in part.items()) + "}"
    if not is_dataclass(part) or isinstance(part, type):
        return repr(part)
    shown = []
    for one in fields(part):
        value = getattr(part, one.name)
        made = one.default_factory() if one.default_factory is not MISSING else one.default
        if made is MISSING or value != made:
            shown.append(f"{one.name}={short(value)}")
    return f"{type(part).__name__}({', '.join(shown)})"


def _of_learn(move: Learn) -> Iterator[str]:
    yield f"{move.name}: passes={move.passes}, minibatch={move.minibatch}, clip={move.clip}"
    yield from (f"{move.name}: {line}" for line in _means(move.weigh))
    for name, part, coefficient in _parts(move):
        scale = "" if coefficient == 1.0 else f"{coefficient} * "
        yield f"{move.name}{name}: {scale}{part!r}"


def _means(weigh: Weigh) -> Iterator[str]:
    if not isinstance(weigh, Each):
        yield f"{weigh!r}: {_MEANS.get(type(weigh), 'a rule of your own')}"
        return
    for column, one in weigh.columns.items():
        yield from (f"{column}: {line}" for line in _means(one))


def _parts(move: Learn) -> Iterator[tuple[str, Objective, Any]]:
    """Yield the name, the objective and the coefficient of each part of a loss."""
    if not isinstance(move.objective, Sum):
        yield "", move.objective, 1.0
        return
    for name, part in move.objective.parts.items():
        yield f".{name}", part, move.objective.weights.get(name, 1.0)


def _absent(phase: Phase, parts: list[Objective]) -> Iterator[str]:
    """Yield what a phase with a policy gradient does not have."""
    policies = [part for part in parts if isinstance(part, Policy)]
    if not policies:
        if any(isinstance(part, Preference) and not part.reference for part in parts):
            yield "reference: none"
        return
    kinds = {type(part) for part in parts} | {type(move) for move in phase.do}
    if not kinds & {KlToReference} and not any("ref" in move.makes for move in phase.do):
        yield "KL to a reference: none"
    if Entropy not in kinds:
        yield "entropy bonus: none"
    if Correct not in kinds:
        yield "sampler correction: none; ratios are to the log-probs in `old`"
    if Filter not in kinds:
        yield "filter of groups: none; groups of equal rewards stay, with advantage 0"
