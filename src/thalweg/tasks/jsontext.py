"""The last JSON object in a text that a model wrote: total, bounded, strict about numbers."""

import json
import re
from typing import NoReturn

__all__ = ["last_object"]

_MOST_CHARACTERS = 50_000
_MOST_BRACES = 1000  # each that opens nothing costs a look at the text before it


def last_object(text: str) -> dict[str, object] | None:
    """Return the last complete JSON object that no other holds, or None.

    Only the last 50,000 characters and the last 1,000 opening braces in them are looked at. NaN
    and infinities, which JSON does not have, objects nested too deep for Python and numbers of
    thousands of digits are not read.

    Example:
        >>> last_object('first {"a": 1}, no: {"a": {"b": 2}} done {')
        {'a': {'b': 2}}
    """
    text = text[-_MOST_CHARACTERS:]
    decoder = json.JSONDecoder(parse_constant=_refuse)
    last: dict[str, object] | None = None
    end = 0
    for start in [brace.start() for brace in re.finditer(r"\{", text)][-_MOST_BRACES:]:
        if start >= end:
            try:
                last, end = decoder.raw_decode(text, start)
            except (ValueError, RecursionError):
                continue
    return last


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
