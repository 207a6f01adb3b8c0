r"""Word problems: the answer in a model's text, and whether it is the true one.

Two forms: a number behind a mark (`#### 42`, as GSM8K writes it) and LaTeX in the last `\boxed{}`
(as MATH does). Reading is strict: a number with words around it is not read, because a reward
that takes any number it finds teaches a model to write many.
"""

import re
from fractions import Fraction

from thalweg.core.protocols import Grade
from thalweg.tasks.same import same_math

__all__ = ["boxed", "final_answer", "marked", "verify_boxed", "verify_marked"]

_NUMBER = re.compile(r"([-+]?)\s*\$?\s*(\d{1,3}(?:,\d{3})+|\d*)(\.\d+)?\s*%?\.?", re.ASCII)
_LONGEST = 400
_MOST_BOXES, _LONGEST_BOX = 20, 10_000
_BOX = re.compile(r"\\f?boxed\s*\{")


def marked(text: str, mark: str = "####") -> Fraction | None:
    r"""Return the number between the last mark and the end of its line, or None.

    Example:
        >>> marked("3 * 4 = 12\n#### 1,012.50"), marked("#### 12 or 13")
        (Fraction(2025, 2), None)
    """
    _, found, rest = text.rpartition(mark)
    line = rest[: _LONGEST + 1].split("\n", 1)[0]
    number = _NUMBER.fullmatch(line.strip()) if found and len(line) <= _LONGEST else None
    if number is None or not (number[2] or number[3]):
        return None
    return Fraction(f"{number[1]}{number[2].replace(',', '') or 0}{number[3] or ''}")


def boxed(text: str) -> str | None:
    r"""Return what stands in the last `\boxed{}` whose braces close, or None.

    Example:
        >>> boxed(r"so \boxed{\frac{1}{2}}.")
        '\\frac{1}{2}'
    """
    boxes = [found.end() for found in _BOX.finditer(text)]
    for start in reversed(boxes[-_MOST_BOXES:]):
        depth = 1
        for brace in re.finditer(r"(?<!\\)[{}]", text[start : start + _LONGEST_BOX]):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                return text[start : start + brace.start()]
    return None


def final_answer(text: str) -> str | None:
    r"""Return the answer of a text, written so that equal numbers are equal texts; None without.

    What stands behind the last `####`, else in the last box, else the text if it is a number.

    Example:
        >>> final_answer("3 * 4 = 12\n#### 12.0"), final_answer(r"so \boxed{\pi}")
        ('12', '\\pi')
    """
    number = marked(text)
    if number is not None:
        return str(number)
    found = boxed(text)
    alone = text.strip() if found is None else found.strip()
    number = marked(f"####{alone}") if "\n" not in alone else None
    return str(number) if number is not None else found and alone


def verify_marked(truth: str, answer: str, mark: str = "####") -> Grade:
    r"""Judge the number behind a mark, exactly: 18, 18.00 and $18 are the same.

    Args:
        truth: A text with the mark and the true number.
        answer: What a model wrote.
        mark: What stands before the number; its last place counts.

    Example:
        >>> verify_marked("#### 18", "16 + 2 = 18\n#### 18.00").right
        True
    """
    given = marked(answer, mark)
    return Grade(0.0, parsed=False) if given is None else Grade(float(given == marked(truth, mark)))


def verify_boxed(truth: str, answer: str) -> Grade:
    r"""Judge what stands in the last box by its mathematical meaning.

    Args:
        truth: The true answer in LaTeX, without a box.
        answer: What a model wrote.

    Example:
        >>> verify_boxed(r"\frac{1}{2}", r"half, so \boxed{0.5}").right
        True
    """
    given = boxed(answer)
    same = None if given is None else same_math(truth, given)
    return Grade(0.0, parsed=False) if same is None else Grade(float(same))
