r"""Short mathematical answers, read into trees: numbers, fractions, roots, powers, functions.

A hand-written reader instead of a general one: nothing is ever executed, and time is bounded by
construction (at most 2,000 characters, 50 levels), so no alarm and no second process is needed.
What it cannot read it refuses with `Unreadable`.

A tree is a nested tuple: ("number", Fraction), ("symbol", "x"), ("neg", a), ("+", a, b, ...),
("*", a, b, ...), ("/", a, b), ("^", a, b), ("pm", a, b), (function, a), ("root", n, a). A degree
is a symbol that its number is multiplied by.
"""

import re
from fractions import Fraction
from typing import Any, TypeAlias

__all__ = ["FUNCTIONS", "Tree", "Unreadable", "clean", "read_expression"]

Tree: TypeAlias = tuple[Any, ...]

FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp sqrt abs fact".split()
)
_NAMES = FUNCTIONS - {"sqrt"}
"""Those that end the argument of one before: sin x cos x is a product."""
_SYMBOLS = frozenset(
    "pi infty alpha beta gamma delta epsilon theta lambda mu nu phi varphi psi omega rho sigma tau"
    " xi zeta eta kappa chi emptyset degree".split()
)
_MOST_CHARACTERS = 2000
_MOST_TOKENS = 200  # a sum of n terms is a tree of depth n
_DEEPEST = 50

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:_(?:\d|\{\d+\}))?)"
    r"|\\(?P<command>[a-zA-Z]+)|(?P<letters>[a-zA-Z])|(?P<sign>\*\*|[-+*/^(){}\[\]!|_]))",
    re.ASCII,
)
_SPACES = re.compile(
    r"(?<!\\)\\(?:left|right|[bB]igg?[lr]?(?![a-zA-Z])|displaystyle|[!,;: ]|q?quad(?![a-zA-Z]))|~"
)
_UNICODE = {
    "\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u00b7": "*", "\u22c5": "*", "\u00f7": "/",
    "\u03c0": r"\pi ", "\u221e": r"\infty ", "\u00b0": r"\degree ", "\u221a": r"\sqrt ",
    "\u00b1": r"\pm ", "\u222a": r"\cup ", "\u2208": r"\in ", "\u00b2": "^2", "\u00b3": "^3",
    "\u00a0": " ",
}  # fmt: skip
_SENTENCE = re.compile(r"(?<![\\{a-zA-Z])(?:not|(?!sqrt|sinh|cosh|tanh)[a-zA-Z]{4,})(?![a-zA-Z}])")
_THOUSANDS = re.compile(r"(?<![\d.,(\[])\d{1,3}(?:,\d{3})+(?![\d,])(?!\s*[)\]])")
_UNIT = re.compile(
    r"(?<=[\w)}])\s*\\(?:text|mbox|mathrm|textrm)\s*"
    r"\{(?![^{}]*\b(?:or|and|not|is)\b)[a-zA-Z ./]*\}\s*(?:\^\s*(?:\d|\{\d\}))?\s*$"
)
_RENAMED = (
    (re.compile(r"\\[dt]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\^\s*(?:\\circ(?![a-zA-Z])|\{\s*\\(?:circ|degree)\s*\}|\\degree)"), r"\\degree "),
    (re.compile(r"\s*\\(?:text|mbox|mathrm|textrm)\s*\{\s*degrees?\s*\}"), r"\\degree "),
    (re.compile(r"\\(?:cdot|times)(?![a-zA-Z])"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])"), "/"),
    (re.compile(r"\\(?:lvert|rvert|vert|mid)(?![a-zA-Z])"), "|"),
    (re.compile(r"\\?%|\\?\$"), ""),
)


class Unreadable(Exception):
    """The text is no expression that can be read, or one too large to compare."""


def clean(text: str) -> str:
    r"""Return an answer without what does not change its meaning: spacing, signs of money, units.

    Raises:
        Unreadable: More than 2,000 characters.

    Example:
        >>> clean(r"\$10,\!080 \text{ dollars}")
        '10080'
    """
    if len(text) > _MOST_CHARACTERS:
        raise Unreadable
    for sign, plain in _UNICODE.items():
        text = text.replace(sign, plain)
    text = re.sub(r",\\!\s*", ",", text)
    text = _SPACES.sub(lambda found: "" if found[0] == r"\!" else " ", text)
    for pattern, plain in _RENAMED:
        text = pattern.sub(plain, text)
    text = re.sub(r",?\s*(?<![\\a-zA-Z])(?:or|and)(?![a-zA-Z])", ",", text.strip())
    text = _UNIT.sub("", text.rstrip(". "))
    return _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text).strip()


def read_expression(text: str) -> Tree:
    r"""Return the tree of one expression.

    Raises:
        Unreadable: The text is not one expression, or has words that are not LaTeX's.

    Example:
        >>> read_expression(r"\frac{x}{2}")
        ('/', ('symbol', 'x'), ('number', Fraction(2, 1)))
    """
    if len(text) > _MOST_CHARACTERS or _SENTENCE.search(text):
        raise Unreadable
    reader = _Reader(_tokens(text))
    if len(reader.tokens) > _MOST_TOKENS:
        raise Unreadable
    tree = reader.sum(0)
    if reader.place != len(reader.tokens):
        raise Unreadable
    return tree


def _tokens(text: str) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    place = 0
    text = text.rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            raise Unreadable
        out.append((found.lastgroup, found[found.lastgroup]))
        place = found.end()
    return _words(out)


def _words(tokens: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Join letters that spell a function or pi without a backslash: `sqrt(3)`, `2pi`."""
    out: list[tuple[str, str]] = []
    i = 0
    while i < len(tokens):
        for word in ("sqrt", "sin", "cos", "tan", "log", "ln", "pi"):
            if tokens[i : i + len(word)] == [("letters", letter) for letter in word]:
                out.append(("command", word))
                i += len(word)
                break
        else:
            out.append(tokens[i])
            i += 1
    return out


class _Reader:
    """Recursive descent over the tokens; each method reads one level of binding."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.place = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.place] if self.place < len(self.tokens) else ("end", "")

    def take(self, *signs: str) -> str:
        """Step over the next token if it is one of these, and return it; else ''."""
        kind, value = self.peek()
        if kind in ("sign", "command") and value in signs:
            self.place += 1
            return value
        return ""

    def demand(self, sign: str) -> None:
        if not self.take(sign):
            raise Unreadable

    def sum(self, depth: int) -> Tree:
        if depth > _DEEPEST:
            raise Unreadable
        tree = self.signed(depth)
        while sign := self.take("+", "-", "pm"):
            part = self.product(depth)
            kind = "pm" if sign == "pm" else "+"
            tree = (kind, tree, ("neg", part) if sign == "-" else part)
        return tree

    def signed(self, depth: int) -> Tree:
        sign = self.take("+", "-", "pm")
        part = self.product(depth)
        if sign == "pm":
            return ("pm", ("number", Fraction(0)), part)
        return ("neg", part) if sign == "-" else part

    def product(self, depth: int, *, stops: frozenset[str] = frozenset()) -> Tree:
        tree = self.power(depth)
        while True:
            if self.take("*"):
                tree = ("*", tree, self.factor(depth))
            elif self.take("/"):
                tree = ("/", tree, self.factor(depth))
            elif self.peek()[1] not in stops and self.starts():
                beside = self.power(depth)
                tree = ("+" if _is_mixed(tree, beside) else "*", tree, beside)
            else:
                return tree

    def factor(self, depth: int) -> Tree:
        return ("neg", self.power(depth)) if self.take("-") else self.power(depth)

    def starts(self) -> bool:
        """Whether a factor can begin here without a sign of multiplication."""
        kind, value = self.peek()
        if kind == "number" and self.tokens[self.place - 1][0] == "number":
            raise Unreadable
        if kind == "sign":
            return value in "({"
        return kind in ("number", "letters") or (kind == "command" and value != "pm")

    def power(self, depth: int) -> Tree:
        tree = self.atom(depth + 1)
        while self.take("!"):
            tree = ("fact", tree)
        if self.take("^", "**"):
            sign = self.take("-", "+")
            exponent = self.script(depth + 1) if self.peek() != ("sign", "{") else self.group(depth)
            tree = ("^", tree, ("neg", exponent) if sign == "-" else exponent)
        return tree

    def script(self, depth: int) -> Tree:
        r"""Read what \frac12 or x^23 take without braces: one digit, letter or atom."""
        kind, value = self.peek()
        if kind == "number" and len(value) > 1 and value.isdigit():
            self.tokens[self.place] = (kind, value[1:])
            return ("number", Fraction(value[0]))
        return self.atom(depth)

    def group(self, depth: int) -> Tree:
        self.demand("{")
        tree = self.sum(depth + 1)
        self.demand("}")
        return tree

    def atom(self, depth: int) -> Tree:
        if depth > _DEEPEST:
            raise Unreadable
        kind, value = self.peek()
        self.place += 1
        if kind == "number":
            return _number(value)
        if kind == "letters":
            return ("symbol", value + self.subscript())
        if kind == "command":
            return self.command(value, depth)
        closing = {"(": ")", "{": "}", "[": "]", "|": "|"}.get(value)
        if kind != "sign" or closing is None:
            raise Unreadable
        tree = self.sum(depth + 1)
        self.demand(closing)
        return ("abs", tree) if value == "|" else tree

    def subscript(self) -> str:
        if not self.take("_"):
            return ""
        braced = self.take("{")
        kind, value = self.peek()
        if kind not in ("number", "letters"):
            raise Unreadable
        self.place += 1
        if braced:
            self.demand("}")
        return f"_{value}"

    def command(self, name: str, depth: int) -> Tree:
        if name == "frac":
            return ("/", self.script(depth + 1), self.script(depth + 1))
        if name == "sqrt" and self.take("["):
            index = self.sum(depth + 1)
            self.demand("]")
            return ("root", index, self.script(depth + 1))
        if name == "log" and self.take("_"):
            base = self.script(depth + 1)
            return ("/", ("ln", self.product(depth + 1, stops=_NAMES)), ("ln", base))
        if name in FUNCTIONS:
            power = self.script(depth + 1) if self.take("^") else None
            bare = name == "sqrt" or self.peek()[1] in ("(", "{")
            argument = self.script(depth + 1) if bare else self.product(depth + 1, stops=_NAMES)
            if bare and self.peek() == ("command", "degree"):
                raise Unreadable  # whether the angle is in degrees, or the value
            return (name, argument) if power is None else ("^", (name, argument), power)
        if name in _SYMBOLS:
            return ("symbol", name)
        raise Unreadable


def _number(text: str) -> Tree:
    """Return a number; one with a base, as 52_8, is a symbol of its own."""
    digits, _, base = text.partition("_")
    if base:
        return ("symbol", f"{digits}_{base.strip('{}')}")
    return ("number", Fraction(digits if digits[-1] != "." else digits[:-1]))


def _is_mixed(whole: Tree, part: Tree) -> bool:
    """Whether this is a mixed number, as 1 4/5 in LaTeX: 1 + 4/5, no product."""
    if whole[0] != "number" or part[0] != "/":
        return False
    return bool(whole[1].denominator == 1 and part[1][0] == part[2][0] == "number")
