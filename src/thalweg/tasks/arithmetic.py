"""Sums, products and remainders in characters; the answers may be reversed or show their steps.

Reversed numbers stand least digit first, as self-improvement trains them. A reversed sum is
padded with zeros to one digit more than the longer operand, so its length gives nothing away.
A scratchpad writes each step before the answer and a `#` between them. Verdicts compare digits,
never integers: they cost one pass over the text however long it is.

Source: arXiv:2502.01612, section 3 (formats: reversed sums, products by shifted partial products
with running sums). Deviation: the separators of the scratchpad are ours.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np

from thalweg.core.protocols import Grade, Problem
from thalweg.errors import RecipeError
from thalweg.tasks.draw import check_whole, rise

__all__ = ["Addition", "Modular", "Multiplication"]

_MOST_DIGITS = 2000  # python turns ints of up to 4300 digits into text
_DIGITS = frozenset("0123456789")


@dataclass(frozen=True)
class Addition:
    """Add two whole numbers.

    Level: digits of the longest operand above `digits`.

    Example:
        >>> task = Addition(digits=2, reverse=True)
        >>> problem = task.make(np.random.default_rng(0), level=0.0)
        >>> problem.prompt, problem.answer
        ('53+31=', '840')
    """

    digits: int = 2
    """Digits of the longest operand at level 0."""
    fewest: int | None = None
    """Digits of the shortest operand, each length alike often; None: all have the most."""
    _: KW_ONLY
    reverse: bool = False
    """Whether all numbers stand least digit first, and the sum is padded with zeros."""
    scratchpad: bool = False
    """Whether the answer shows digit + digit + carry of every place before a `#`."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range."""
        _check_digits("Addition", self.digits, self.fewest)

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a sum; pure in the generator and the level."""
        a, b, most = _operands(draw, level, self.digits, self.fewest)
        total = str(int(a) + int(b))
        if self.reverse:
            total = total.zfill(max(len(a), len(b)) + 1)
        steps = _carries(a, b) if self.scratchpad else ""
        prompt = f"{_turn(a, self.reverse)}+{_turn(b, self.reverse)}="
        facts = {"difficulty": float(most), "digits": [len(a), len(b)]}
        return Problem(prompt, steps + _turn(total, self.reverse), facts)

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge the last number; leading zeros do not count."""
        return _same_number(problem.answer, answer, reverse=self.reverse, steps=self.scratchpad)


@dataclass(frozen=True)
class Multiplication:
    """Multiply two whole numbers.

    The scratchpad gives for each digit of the second operand, least first, the shifted partial
    product and the running sum: `12*34=` has `48=48,360=408#408`.

    Level: digits of the longest operand above `digits`.

    Example:
        >>> task = Multiplication(digits=2, scratchpad=True)
        >>> problem = task.make(np.random.default_rng(0), level=0.0)
        >>> problem.prompt, problem.answer
        ('35*13=', '105=105,350=455#455')
    """

    digits: int = 2
    """Digits of the longest operand at level 0."""
    fewest: int | None = None
    """Digits of the shortest operand, each length alike often; None: all have the most."""
    _: KW_ONLY
    reverse: bool = False
    """Whether all numbers stand least digit first."""
    scratchpad: bool = False
    """Whether the answer shows partial products and running sums before a `#`."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range."""
        _check_digits("Multiplication", self.digits, self.fewest)

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a product; pure in the generator and the level."""
        a, b, most = _operands(draw, level, self.digits, self.fewest)
        steps = _partials(a, b, reverse=self.reverse) if self.scratchpad else ""
        prompt = f"{_turn(a, self.reverse)}*{_turn(b, self.reverse)}="
        product = _turn(str(int(a) * int(b)), self.reverse)
        facts = {"difficulty": float(most), "digits": [len(a), len(b)]}
        return Problem(prompt, steps + product, facts)

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge the last number; leading zeros do not count."""
        return _same_number(problem.answer, answer, reverse=self.reverse, steps=self.scratchpad)


@dataclass(frozen=True)
class Modular:
    """Combine numbers below a modulus, from the left, and give the remainder.

    Level: terms above `terms`.

    Example:
        >>> problem = Modular(modulus=7, terms=3).make(np.random.default_rng(0), level=0.0)
        >>> problem.prompt, problem.answer
        ('3+1+2 mod 7=', '6')
    """

    modulus: int = 97
    """Numbers run from 0 to modulus - 1."""
    operation: Literal["+", "-", "*"] = "+"
    terms: int = 2
    """Numbers to combine at level 0."""
    _: KW_ONLY
    scratchpad: bool = False
    """Whether the answer shows the remainder after each term before a `#`."""

    def __post_init__(self) -> None:
        """Refuse sizes out of range and unknown operations."""
        check_whole("Modular", "modulus", self.modulus, 2, 1 << 30)
        check_whole("Modular", "terms", self.terms, 2, 1000)
        if self.operation not in ("+", "-", "*"):
            raise RecipeError(
                f"operation = {self.operation!r}",
                expected="'+', '-' or '*'",
                where="Modular",
                write='operation="+"',
            )

    def make(self, draw: np.random.Generator, level: float) -> Problem:
        """Return a chain of terms; pure in the generator and the level."""
        terms = self.terms + rise(draw, level)
        numbers = [int(n) for n in draw.integers(self.modulus, size=terms)]
        values = numbers[:1]
        for number in numbers[1:]:
            values.append(self._combine(values[-1], number))
        steps = ",".join(map(str, values[1:])) + "#" if self.scratchpad else ""
        prompt = f"{self.operation.join(map(str, numbers))} mod {self.modulus}="
        return Problem(prompt, f"{steps}{values[-1]}", {"difficulty": float(terms)})

    def verify(self, problem: Problem, answer: str) -> Grade:
        """Judge the last number; leading zeros do not count."""
        return _same_number(problem.answer, answer, reverse=False, steps=self.scratchpad)

    def _combine(self, a: int, b: int) -> int:
        results = {"+": a + b, "-": a - b, "*": a * b}
        return results[self.operation] % self.modulus


def _check_digits(where: str, digits: int, fewest: int | None) -> None:
    check_whole(where, "digits", digits, 1, _MOST_DIGITS)
    if fewest is not None:
        check_whole(where, "fewest", fewest, 1, digits)


def _operands(
    draw: np.random.Generator, level: float, digits: int, fewest: int | None
) -> tuple[str, str, int]:
    """Return two numbers without leading zeros, and the most digits they could have had."""
    most = digits + rise(draw, level)
    check_whole("Task.make", "digits + level", most, 1, _MOST_DIGITS)
    low = most if fewest is None else fewest
    a, b = (_number(draw, int(draw.integers(low, most + 1))) for _ in range(2))
    return a, b, most


def _number(draw: np.random.Generator, digits: int) -> str:
    rest = draw.integers(10, size=digits - 1)
    return str(draw.integers(1, 10)) + "".join(map(str, rest))


def _turn(text: str, reverse: bool) -> str:
    return text[::-1] if reverse else text


def _carries(a: str, b: str) -> str:
    """Return the steps of a written sum, least place first: 17 + 35 is `7+5+0=12,1+3+1=5#`."""
    places = max(len(a), len(b))
    carry, steps = 0, []
    for x, y in zip(reversed(a.zfill(places)), reversed(b.zfill(places)), strict=True):
        total = int(x) + int(y) + carry
        steps.append(f"{x}+{y}+{carry}={total}")
        carry = total // 10
    return ",".join(steps) + "#"


def _partials(a: str, b: str, *, reverse: bool) -> str:
    running, steps = 0, []
    for place, digit in enumerate(reversed(b)):
        partial = str(int(a) * int(digit)) + "0" * place
        running += int(partial)
        steps.append(f"{_turn(partial, reverse)}={_turn(str(running), reverse)}")
    return ",".join(steps) + "#"


def _same_number(truth: str, answer: str, *, reverse: bool, steps: bool) -> Grade:
    """Compare the digits behind the scratchpad; anything but digits there is not readable."""
    given = _final(answer, steps=steps)
    if not given or not _DIGITS.issuperset(given):
        return Grade(0.0, parsed=False)
    wanted = _final(truth, steps=steps)
    same = _turn(given, reverse).lstrip("0") == _turn(wanted, reverse).lstrip("0")
    return Grade(float(same))


def _final(text: str, *, steps: bool) -> str:
    if not steps:
        return text.strip()
    _, mark, final = text.rpartition("#")
    return final.strip() if mark else ""
