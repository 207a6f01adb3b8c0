"""Tool calls: choose a function among confusable ones and fill in its arguments, as JSON.

Source: arXiv:2412.15495, section 4 (graded errors of calls; numbers of the authors' code). The
generator is ours: a name is a verb and a field of an object (`get_user`, `get_user_id`), so that
names share their beginnings, and some parameters are optional.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from thalweg.core.protocols import Grade, Problem
from thalweg.errors import RecipeError
from thalweg.tasks.draw import check_whole, rise
from thalweg.tasks.jsontext import last_object

__all__ = ["ToolCalls", "Tools", "grade_call", "key_token_weights"]

Tools: TypeAlias = Mapping[str, Sequence[str]]
"""The parameters of each tool by name."""

_VERBS = ("get", "set", "list", "delete")
_OBJECTS = ("user", "order", "ticket", "book")
_FIELDS = ("", "_id", "_name", "_status", "_owner", "_count")
_MOST = len(_VERBS) * len(_OBJECTS) * len(_FIELDS)
_KINDS = {
    "name": "string",
    "city": "string",
    "limit": "integer",
    "page": "integer",
    "active": "boolean",
    "exact": "boolean",
}
_TEXTS = ("Ada", "Bruno", "Chen", "Dora", "Lima", "Oslo", "Quito", "Turin")


@dataclass(frozen=True)
class ToolCalls:
    """Answer a request with the one call it asks for.

    Prompt: a line for each tool, then the request. Answer: `{"name": ..., "arguments": {...}}`.

    Level: tools above `tools`.

    Example:
        >>> problem = ToolCalls(tools=2, arguments=1).make(np.random.default_rng(0), level=0.0)
        >>> print(problem.prompt)
        delete_order_name(city: string, limit: integer)
        set_ticket(city: string, limit: integer)
        Request: set ticket with city "Chen"
        Call:
        >>> problem.answer
        '{"name": "set_ticket", "arguments": {"city": "Chen"}}'
    """

    tools: int = 4
    """Tools to choose from at level 0, 1 to 96."""
    arguments: int = 2
    """Arguments of the call, 0 to 5. Every tool has one parameter more, which is not asked for."""
    _: KW_ONLY
    reward: Literal["graded", "exact"] = "graded"
    """The graded score of `grade_call`, from -2 to 1, or 1 for the right call and else 0."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range."""
        check_whole("ToolCalls", "tools", self.tools, 1, _MOST)
        check_whole("ToolCalls", "arguments", self.arguments, 0, len(_KINDS) - 1)
        if self.reward not in ("graded", "exact"):
            raise RecipeError(
                f"reward = {self.reward!r}",
                expected="'graded' or 'exact'",
                where="ToolCalls",
                write='reward="graded"',
            )

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return tools and a request; pure in the generator and the level."""
        count = self.tools + rise(draw, level)
        check_whole("ToolCalls.make", "tools + level", count, 1, _MOST)
        names = [_name(int(i)) for i in draw.permutation(_MOST)[:count]]
        tools = {name: _parameters(draw, self.arguments + 1) for name in names}
        chosen = names[draw.integers(count)]
        asked = [tools[chosen][i] for i in sorted(draw.permutation(self.arguments + 1)[1:])]
        arguments = {name: _argument(draw, _KINDS[name]) for name in asked}
        said = " and ".join(f"{name} {json.dumps(value)}" for name, value in arguments.items())
        request = chosen.replace("_", " ") + (f" with {said}" if said else "")
        lines = [
            f"{name}({', '.join(f'{p}: {_KINDS[p]}' for p in parameters)})"
            for name, parameters in tools.items()
        ]
        prompt = "\n".join([*lines, f"Request: {request}", "Call:"])
        answer = json.dumps({"name": chosen, "arguments": arguments})
        return Problem(prompt, answer, {"difficulty": float(count), "tools": tools})

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge the last JSON object; `parts` has whether the name and which arguments fit."""
        verdict = grade_call(problem.answer, answer, problem.facts["tools"])
        if self.reward == "graded":
            return verdict
        return verdict._replace(score=float(verdict.score == 1.0))


def key_token_weights(
    answer: Sequence[int],
    name: Sequence[int],
    others: Sequence[Sequence[int]],
    *,
    cap: float = 9.0,
) -> list[float]:
    """Return a weight for each token of an answer: more where it is decided which tool is called.

    Key tokens are the first of the name, and for every other name that begins alike the first one
    behind what they share. Of k key tokens among n others each weighs min(n / k, cap) if k < n,
    all else weighs 1. Names are compared as token ids: where names part depends on the tokenizer.

    Args:
        answer: Token ids of the answer, the name among them.
        name: Token ids of the tool's name, as they stand in the answer.
        others: Those of the other tools' names.
        cap: Largest weight.

    Returns:
        As many numbers as the answer has tokens, for `weight` or `weighted_likelihood`; all 1 if
        the name is not in the answer.

    Source: arXiv:2412.15495, section 4.2 and the authors' code.

    Example:
        >>> key_token_weights([5, 1, 2, 6, 7, 8], name=[1, 2], others=[[1, 2, 3], [4]])
        [1.0, 2.0, 1.0, 2.0, 1.0, 1.0]
    """
    starts = range(len(answer) - len(name) + 1)
    start = next((at for at in starts if list(answer[at : at + len(name)]) == [*name]), None)
    if start is None or not name:
        return [1.0] * len(answer)
    shared = (_shared(name, other) for other in others)
    keys = {start, *(start + length for length in shared if length)} & set(range(len(answer)))
    rest = len(answer) - len(keys)
    heavy = min(rest / len(keys), cap) if len(keys) < rest else 1.0
    return [heavy if at in keys else 1.0 for at in range(len(answer))]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many first tokens two names share."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def grade_call(truth: str, answer: str, tools: Tools) -> Grade:
    """Grade a call by its worst kind of error.

    Not readable or unknown tool -2; wrong tool -1.5; parameters that the tool does not have
    -0.8, with needless or missing ones -1.3, with both -1.8; needless and missing ones -1; one
    of the two -0.5; wrong values only -0.25; right 1.

    Args:
        truth: The right call as JSON.
        answer: What a model wrote; its last JSON object counts.
        tools: The parameters of each tool.

    Returns:
        The score; parts `name` (0 or 1) and `arguments`, the share of arguments of either call
        that stand in both with the same value (0 under a wrong name).

    Source: arXiv:2412.15495, section 4.3; numbers of github Junjie-Ye/TL-Training.

    Example:
        >>> call = '{"name": "get_user", "arguments": {"name": "Ada"}}'
        >>> grade_call(call, call.replace("Ada", "Bo"), {"get_user": ["name"]}).score
        -0.25
    """
    wanted, given = _call(truth), _call(answer)
    if given is None or wanted is None:
        return Grade(-2.0, parsed=False, parts={"name": 0.0, "arguments": 0.0})
    (name, right), (said, args) = wanted, given
    if said != name:
        score = -1.5 if said in tools else -2.0
        return Grade(score, parts={"name": 0.0, "arguments": 0.0})
    alike = {key for key in right if key in args and _alike(right[key], args[key])}
    either = right.keys() | args.keys()
    share = len(alike) / len(either) if either else 1.0
    score = _score(right, args, tools.get(name, ()), wrong=len(alike) < len(either))
    return Grade(score, parts={"name": 1.0, "arguments": share})


def _score(
    right: Mapping[str, Any], args: Mapping[str, Any], known: Sequence[str], *, wrong: bool
) -> float:
    extra = args.keys() - right.keys()
    invented = bool(extra - set(known))
    others = bool(extra & set(known)) + bool(right.keys() - args.keys())
    if invented:
        return (-0.8, -1.3, -1.8)[others]
    return (-0.25 if wrong else 1.0, -0.5, -1.0)[others]


def _call(text: str) -> tuple[str, Mapping[str, Any]] | None:
    found = last_object(text) or {}
    name, arguments = found.get("name"), found.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return name, arguments


def _alike(a: object, b: object) -> bool:
    """Compare values by type too: true is not 1, and 1 is not 1.0."""
    return type(a) is type(b) and a == b


def _name(index: int) -> str:
    verb, rest = divmod(index, len(_OBJECTS) * len(_FIELDS))
    thing, part = divmod(rest, len(_FIELDS))
    return f"{_VERBS[verb]}_{_OBJECTS[thing]}{_FIELDS[part]}"


def _parameters(draw: np.random.Generator, count: int) -> list[str]:
    names = list(_KINDS)
    return [names[i] for i in sorted(draw.permutation(len(names))[:count])]


def _argument(draw: np.random.Generator, kind: str) -> str | int | bool:
    if kind == "string":
        return _TEXTS[draw.integers(len(_TEXTS))]
    return int(draw.integers(100)) if kind == "integer" else bool(draw.integers(2))
