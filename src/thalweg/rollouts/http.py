"""One JSON call over HTTP, with the standard library: what may pass is tried again.

Tried again: no connection, no answer in time, a body that is no JSON, 408, 409, 425, 429 and every
5xx; after the server's own `Retry-After` if it names seconds, else after the pauses given. Any
other refusal of the server is final. When the tries are spent, the error quotes what came last.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any

from thalweg.errors import RecipeError

__all__ = ["PAUSES", "call"]

PAUSES = (0.5, 2.0, 8.0, 30.0)
"""Seconds before each further try."""

_PASSING = (408, 409, 425, 429)
_LONGEST_PAUSE = 60.0


def call(
    url: str,
    body: Mapping[str, Any] | None,
    *,
    expected: str,
    write: str,
    key_variable: str = "",
    seconds: float = 600.0,
    pauses: Sequence[float] = PAUSES,
) -> dict[str, Any]:
    """Return the reply to a POST of a JSON body, or to a GET; empty for an empty one.

    Args:
        url: Whole.
        body: None: GET.
        expected: For the error: what should have answered.
        write: For the error: what to do.
        key_variable: Environment variable of a bearer key; "" or unset: no key is sent.
        seconds: Most time of a try.
        pauses: Before each further try.

    Raises:
        RecipeError: The server refused, or the tries are spent.
    """
    headers = {"Content-Type": "application/json"}
    key = os.environ.get(key_variable, "") if key_variable else ""
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = None if body is None else json.dumps(body).encode()
    said = ""
    for pause in (*pauses, None):
        wait = pause
        try:
            request = urllib.request.Request(url, data, headers)
            with urllib.request.urlopen(request, timeout=seconds) as reply:
                text = reply.read()
            return _object(json.loads(text)) if text.strip() else {}
        except urllib.error.HTTPError as error:
            said = f"{error.code}: {error.read()[:300].decode(errors='replace')}"
            if error.code < 500 and error.code not in _PASSING:
                break
            wait = _asked_pause(error.headers.get("Retry-After"), pause)
        except (OSError, HTTPException, ValueError) as error:  # time-outs are OSErrors
            said = str(error) or type(error).__name__
        if wait is not None:
            time.sleep(wait)
    raise RecipeError(said, expected=expected, where=url, write=write)


def _object(found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"a reply that is no JSON object: {str(found)[:100]}")
    return found


def _asked_pause(asked: str | None, pause: float | None) -> float | None:
    """Return the longer of our pause and what the server asks for, at most a minute."""
    if pause is None or asked is None or not asked.strip().isdigit():
        return pause
    return min(max(pause, float(asked)), _LONGEST_PAUSE)
