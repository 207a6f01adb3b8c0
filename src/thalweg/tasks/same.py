r"""Whether two short mathematical answers mean the same.

Rational numbers are compared exactly. Everything else is evaluated to 60 digits, free symbols at
three fixed points: two different expressions that agree at all of them to 40 digits would have to
be made for it. Lists and sets ignore order, tuples, intervals and matrices do not; an equation
equals another if one difference of sides is a multiple of the other. The name in `x = 5` may be
left out, but what has two names says the same only with each value at its own. A degree is pi/180
under a sine; elsewhere it may be left out, or be radians: `45^\circ` is 45 and pi/4. Sizes of
numbers are bounded before anything is computed, so `10^{10^{10^{10}}}` costs nothing: it is not
readable.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import mpmath

from thalweg.core.rng import key_seed
from thalweg.tasks.latex import Tree, Unreadable, clean, read_expression

__all__ = ["same_math"]

_DIGITS = 60
_AGREE = mpmath.mpf(10) ** -40
_POINTS = 3
_MOST_BITS = 20_000
_DEGREE: Tree = ("symbol", "degree")
_UNITS: tuple[Tree, ...] = (
    ("number", Fraction(1)),
    ("/", ("symbol", "pi"), ("number", Fraction(180))),
)
_OF_ANGLES = ("sin", "cos", "tan", "cot", "sec", "csc")
_WORDS = re.compile(r"\s*(?:\\(?:text|mbox|mathrm|textbf|textrm)\s*\{)([^{}]*)\}\s*")
_MATRIX = re.compile(r"\\begin\{([pbv]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_NAMED = re.compile(r"([a-zA-Z](?:\([a-z]\))?)\s*(?:=|\\in(?![a-z]))\s*(?=[^=]+$)")

Parts: TypeAlias = tuple[str, Any]
"""A kind ("list", "row", "matrix", "equation", "value", "named") and what it holds."""


def same_math(truth: str, given: str) -> bool | None:
    r"""Return whether an answer means the same as the true one; None if it cannot be read.

    Example:
        >>> same_math(r"\frac{1}{2}", "0.5"), same_math("1,-2", "-2, 1"), same_math("7", "seven")
        (True, True, None)
    """
    try:
        wanted, answer = clean(truth), clean(given)
        if not answer:
            return None
        if wanted == answer:
            return True
        if _WORDS.fullmatch(wanted) or _WORDS.fullmatch(answer):
            return _plain(wanted) == _plain(answer)
        return _same(_read(wanted), _read(answer))
    except (Unreadable, ZeroDivisionError, OverflowError, ValueError, RecursionError):
        return None


def _plain(text: str) -> str:
    r"""Return the letters of words: without \text{}, brackets, case."""
    found = _WORDS.fullmatch(text)
    return re.sub(r"[\s().]", "", found[1] if found else text).lower()


def _read(text: str) -> Parts:
    text = text.strip()
    if found := _NAMED.match(text):
        return _named(found[1], _read(text[found.end() :]))
    pieces = _split(text, r"\\cup(?![a-z])")
    if len(pieces) > 1:
        return "list", [_read(piece) for piece in pieces]
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        rows = re.split(r"\\\\", matrix[2].strip().removesuffix(r"\\"))
        return "matrix", [[_read(cell.strip()) for cell in row.split("&")] for row in rows]
    pieces = _split(text, ",")
    if len(pieces) > 1:
        return "list", [part for piece in pieces for part in _spread(piece)]
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return "list", [p for piece in _split(text[2:-2], ",") for p in _spread(piece)]
    inside = _split(text[1:-1], ",")
    if len(inside) > 1 and text[0] in "([" and text[-1] in ")]":
        return "row", (text[0] + text[-1], [_read(piece) for piece in inside])
    if text.count("=") == 1:
        left, right = (read_expression(side) for side in text.split("="))
        return "equation", ("+", left, ("neg", right))
    spread = _spread(text)
    return spread[0] if len(spread) == 1 else ("list", spread)


def _named(name: str, parts: Parts) -> Parts:
    """Return what is called so; the name of a list is that of its entries."""
    kind, inside = parts
    if kind == "list":
        return kind, [_named(name, part) for part in inside]
    return parts if kind == "named" else ("named", (name, parts))


def _spread(text: str) -> list[Parts]:
    """Return an entry of a list: one value, or two if it holds a plus or minus."""
    text = text.strip()
    if found := _NAMED.match(text):
        return [_named(found[1], part) for part in _spread(text[found.end() :])]
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and "," in text:
        return [_read(text)]
    trees = _branches(read_expression(text))
    return [("value", tree) for tree in trees]


def _branches(tree: Tree) -> list[Tree]:
    if tree[0] == "pm":
        return [("+", tree[1], tree[2]), ("+", tree[1], ("neg", tree[2]))]
    return [tree]


def _split(text: str, mark: str) -> list[str]:
    """Cut at a mark that stands in no bracket. Half-open intervals close with any bracket."""
    out, depth, start = [], 0, 0
    for found in re.finditer(rf"[(\[{{]|[)\]}}]|{mark}", text):
        if found[0] in "([{":
            depth += 1
        elif found[0] in ")]}":
            depth -= 1
        elif depth == 0:
            out.append(text[start : found.start()])
            start = found.end()
    return [*out, text[start:]]


def _same(a: Parts, b: Parts) -> bool:
    (kind, x), (other, y) = a, b
    if "named" in (kind, other):
        return _same_named(a, b)
    if kind != other:
        return False
    if kind == "list":
        return _same_in_any_order(x, y)
    if kind == "row":
        return bool(x[0] == y[0]) and _same_rows(x[1], y[1])
    if kind == "matrix":
        return len(x) == len(y) and all(_same_rows(p, q) for p, q in zip(x, y, strict=True))
    return _multiples(x, y) if kind == "equation" else _equal(x, y)


def _same_named(a: Parts, b: Parts) -> bool:
    """Compare where at least one has a name: values if the names allow it, or equations."""
    names = {part[1][0] for part in (a, b) if part[0] == "named"}
    if len(names) == 1 and "equation" not in (a[0], b[0]):
        return _same(_value_of(a), _value_of(b))
    x, y = _equation(a), _equation(b)
    return x is not None and y is not None and _multiples(x, y)


def _value_of(part: Parts) -> Parts:
    return part[1][1] if part[0] == "named" else part


def _equation(part: Parts) -> Tree | None:
    """Return the difference of the sides of an equation; None if this is none."""
    kind, inside = part
    if kind == "named" and inside[1][0] == "value":
        return ("+", read_expression(inside[0]), ("neg", inside[1][1]))
    return inside if kind == "equation" else None


def _same_rows(x: Sequence[Parts], y: Sequence[Parts]) -> bool:
    return len(x) == len(y) and all(_same(p, q) for p, q in zip(x, y, strict=True))


def _same_in_any_order(x: Sequence[Parts], y: Sequence[Parts]) -> bool:
    if len(x) != len(y) or len(x) > 30:
        return False
    if max(len(_names(x)), len(_names(y))) > 1 and _has_bare(x) != _has_bare(y):
        raise Unreadable  # nobody says which value is whose
    left = list(y)
    for part in x:
        match = next((i for i, other in enumerate(left) if _same(part, other)), None)
        if match is None:
            return False
        del left[match]
    return True


def _names(parts: Sequence[Parts]) -> set[str]:
    return {inside[0] for kind, inside in parts if kind == "named"}


def _has_bare(parts: Sequence[Parts]) -> bool:
    """Whether an entry says a value and not of what."""
    return any(kind not in ("named", "equation") for kind, _ in parts)


def _equal(x: Tree, y: Tree) -> bool:
    """Whether x = y, degrees left out on both sides or taken as radians on both."""
    return any(_agree(_in_units(x, unit), _in_units(y, unit)) for unit in _UNITS)


def _in_units(tree: Tree, unit: Tree) -> Tree:
    """Return a tree with degrees as this; an angle of a sine is in radians."""
    if tree == _DEGREE:
        return unit
    inside = _UNITS[1] if tree[0] in _OF_ANGLES else unit
    return tuple(_in_units(part, inside) if isinstance(part, tuple) else part for part in tree)


def _agree(x: Tree, y: Tree) -> bool:
    a, b = _exact(x), _exact(y)
    if a is not None and b is not None:
        return a == b
    return all(_close(_value(x, point), _value(y, point)) for point in range(_POINTS))


def _multiples(x: Tree, y: Tree) -> bool:
    """Whether x = c y with one constant c that is not zero."""
    return any(_proportional(_in_units(x, unit), _in_units(y, unit)) for unit in _UNITS)


def _proportional(x: Tree, y: Tree) -> bool:
    with mpmath.workdps(_DIGITS):
        pairs = [(_value(x, point), _value(y, point)) for point in range(_POINTS)]
        (a, b), *rest = pairs
        return bool(a != 0 and b != 0) and all(_close(a * q, b * p) for p, q in rest)


def _close(a: Any, b: Any) -> bool:
    if not (mpmath.isfinite(a) and mpmath.isfinite(b)):
        raise Unreadable
    with mpmath.workdps(_DIGITS):
        return bool(abs(a - b) <= _AGREE * max(1, abs(a), abs(b)))


def _exact(tree: Tree) -> Fraction | None:
    """Return the value if it is rational arithmetic, and small enough to write down."""
    kind, *parts = tree
    if kind == "number":
        return Fraction(parts[0])
    if kind not in ("neg", "+", "*", "/", "^"):
        return None
    values = [_exact(part) for part in parts]
    a, b = values[0], values[-1]
    if a is None or b is None:
        return None
    if kind == "neg":
        return -a
    if kind == "^":
        bits = max(a.numerator.bit_length(), a.denominator.bit_length())
        small = b.denominator == 1 and bits * abs(b) <= _MOST_BITS
        return Fraction(a**b) if small else None
    result = a + b if kind == "+" else a * b if kind == "*" else a / b
    if result.numerator.bit_length() + result.denominator.bit_length() > _MOST_BITS:
        raise Unreadable
    return result


def _value(tree: Tree, point: int) -> Any:
    """Return the value to 60 digits, symbols at one of the fixed points."""
    with mpmath.workdps(_DIGITS):
        kind, *parts = tree
        if kind == "number":
            return mpmath.mpf(parts[0].numerator) / parts[0].denominator
        if kind == "symbol":
            return _symbol(parts[0], point)
        values = [_value(part, point) for part in parts]
        if any(not mpmath.isfinite(v) or mpmath.mag(v) > _MOST_BITS for v in values):
            raise Unreadable
        return _apply(kind, *values)


def _symbol(name: str, point: int) -> Any:
    known = {"pi": mpmath.pi, "e": mpmath.e, "i": mpmath.mpc(0, 1)}
    if name in known:
        return +known[name]
    return 1 + mpmath.mpf(key_seed(point, name) >> 32) / (1 << 31)


def _apply(kind: str, a: Any, b: Any = 0) -> Any:
    if kind in ("+", "*", "/", "neg"):
        return {"+": lambda: a + b, "*": lambda: a * b, "/": lambda: a / b, "neg": lambda: -a}[
            kind
        ]()
    if kind == "^":
        return _power(a, b)
    if kind == "root":
        return _power(b, 1 / a)
    if kind == "fact":
        if not (mpmath.isint(a) and 0 <= a <= 1000):
            raise Unreadable
        return mpmath.factorial(a)
    if kind in ("sin", "cos", "tan", "cot", "sec", "csc", "exp", "sinh", "cosh", "tanh"):
        if abs(a) > _MOST_BITS:
            raise Unreadable
        return getattr(mpmath, kind)(a)
    names = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "abs": "fabs"}
    if kind == "log":
        return mpmath.log(a, 10)
    return getattr(mpmath, names.get(kind, kind))(a)


def _power(a: Any, b: Any) -> Any:
    if a != 0 and abs(b) * max(1, abs(mpmath.mag(a))) > _MOST_BITS:
        raise Unreadable
    if a == 0 and (mpmath.im(b) != 0 or b < 0):
        raise Unreadable
    return mpmath.power(a, b)
