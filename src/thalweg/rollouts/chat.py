"""Any server that speaks OpenAI's chat completions, as an author, over the standard library.

What is done: one request a prompt for all its answers, several requests at a time; what may pass
is tried again (see `http.call`); a server that gives fewer answers than `n` asks for is asked for
the rest. What was bought is kept even when another request fails for good. What is not done:
streaming, batch interfaces, tools, pictures.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from thalweg.core.rng import key_seed
from thalweg.errors import RecipeError
from thalweg.rollouts.authors import Reply, Said, Want
from thalweg.rollouts.http import PAUSES, call

__all__ = ["ChatServer"]

_CHARACTERS = 4
"""Of a token, where the server does not count them."""


@dataclass(frozen=True, kw_only=True)
class ChatServer:
    """Where a server listens, which model it is asked for, and how.

    Called with a prompt it returns the text of one answer, as `medu` asks.

    Example:
        >>> server = ChatServer(model="qwen3-8b", url="http://127.0.0.1:8000/v1")
        >>> server.body("2+2=", 3)["messages"], server.body("2+2=", 3)["n"]
        ([{'role': 'user', 'content': '2+2='}], 3)
    """

    model: str
    """Its name on the server."""
    url: str = "http://127.0.0.1:8000/v1"
    """Up to `/chat/completions`."""
    system: str | None = None
    """A system message."""
    temperature: float = 0.7
    top_p: float = 1.0
    new_tokens: int = 1024
    """Most tokens of an answer, `max_tokens`."""
    seed: int = 0
    """From it, the prompt and the number of an answer comes the request's `seed`."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request; None leaves a field out: `{"seed": None}`."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable of the key; the key itself is written nowhere."""
    parallel: int = 16
    """Most requests at a time."""
    seconds: float = 300.0
    """Most time of a request."""
    pauses: tuple[float, ...] = PAUSES
    """Seconds before each further try."""

    @property
    def mark(self) -> str:
        """Return what answers depend on: all but where and how fast the server is asked."""
        how = [self.model, self.system, self.temperature, self.top_p, self.new_tokens, self.seed]
        return json.dumps([*how, dict(self.more)], sort_keys=True)

    def __call__(self, prompt: str) -> str:
        """Return one answer to a prompt."""
        return self._reply(Want(prompt)).said[0].text

    def write(self, wants: Sequence[Want]) -> Iterator[tuple[int, Reply]]:
        """Yield replies as they arrive.

        Raises:
            RecipeError: A request that failed for good, when those in flight have arrived.
        """
        pool, waiting = ThreadPoolExecutor(self.parallel), deque(enumerate(wants))
        flying: dict[Future[Reply], int] = {}
        failed: RecipeError | None = None
        try:
            while flying or (waiting and failed is None):
                while waiting and failed is None and len(flying) < self.parallel:
                    place, want = waiting.popleft()
                    flying[pool.submit(self._reply, want)] = place
                for job in wait(flying, return_when=FIRST_COMPLETED).done:
                    place = flying.pop(job)
                    try:
                        reply = job.result()
                    except RecipeError as error:
                        failed = error
                        continue
                    yield place, reply
            if failed is not None:
                raise failed
        finally:
            pool.shutdown(wait=False)

    def body(self, prompt: str, count: int, first: int = 0) -> dict[str, Any]:
        """Return the request for `count` answers, the first of which has this number."""
        system = [{"role": "system", "content": self.system}] if self.system is not None else []
        body = {
            "model": self.model,
            "messages": [*system, {"role": "user", "content": prompt}],
            "n": count,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.new_tokens,
            "seed": key_seed(self.seed, prompt, first) >> 33,
            **self.more,
        }
        return {name: value for name, value in body.items() if value is not None}

    def _reply(self, want: Want) -> Reply:
        url = self.url.rstrip("/") + "/chat/completions"
        body = self.body(want.prompt, want.answers, want.first)
        found = call(
            url, body, key_variable=self.key_variable, seconds=self.seconds, pauses=self.pauses,
            expected="a server with OpenAI's chat completions",
            write=f"ChatServer(url=..., model=...), the key in ${self.key_variable}",
        )  # fmt: skip
        said = tuple(_said(choice) for choice in found.get("choices") or ())[: want.answers]
        if not said:
            raise RecipeError(
                f"a reply without choices: {json.dumps(found)[:300]}",
                expected='{"choices": [{"message": {"content": "..."}}]}',
                where=url,
                write="the url of a chat completions server, up to /chat/completions",
            )
        usage = found.get("usage") or {}
        asked = sum(len(message["content"]) for message in body["messages"])
        written = sum(len(one.text) for one in said)
        return Reply(
            said,
            int(usage.get("prompt_tokens") or asked // _CHARACTERS),
            int(usage.get("completion_tokens") or written // _CHARACTERS),
        )


def _said(choice: Mapping[str, Any]) -> Said:
    """Return an answer; a refusal to answer, or thoughts alone, are the empty text."""
    text = (choice.get("message") or {}).get("content")
    return Said(text if isinstance(text, str) else "", choice.get("finish_reason") != "length")
