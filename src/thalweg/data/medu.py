"""MEDU: how useful each source is for each task, by asking a language model.

For every task the model describes, from a few of its examples, what training text would help. Then
it rates a sample of documents of every source against that description, on five levels. The mean
level is the source's utility, which `utilimax` turns into weights. How the model is asked is the
caller's: any function from a prompt to an answer. Answers are kept in a file, so a killed call
pays for nothing twice, and what was sent and received is counted and printed.

Source: arXiv:2501.11747 (MEDU). The five levels are the paper's; their even spacing from 1 to 0
and the wording of the prompts are ours.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from thalweg.data.ledger import Ledger, key_of
from thalweg.errors import DataError

__all__ = ["DESCRIBE", "LEVELS", "RATE", "Ratings", "level_of", "medu"]

LEVELS: Mapping[str, float] = {
    "great": 1.0,
    "good": 0.75,
    "okay": 0.5,
    "poor": 0.25,
    "useless": 0.0,
}
"""What an answer may end in, and what it is worth."""

DESCRIBE = """Here are examples of a test.

{examples}

In one paragraph, say what knowledge and skills the test needs, and what kind of text a language
model should read in training to do well in it. Do not repeat the examples."""
"""Asked once a task."""

RATE = """Text for training a language model is wanted that fits this description:

{description}

Here is the beginning of a text:

{document}

How useful is it? Think briefly, then end with one word: Great, Good, Okay, Poor or Useless."""
"""Asked once for every task and document."""


class Ratings(NamedTuple):
    """What a model said, and what it cost."""

    utility: dict[str, dict[str, float]]
    """Source -> task -> mean level, 0 to 1; what `utilimax` takes."""
    asked: int
    """Prompts that were sent; those answered before are not."""
    sent: int
    """Characters of these prompts."""
    received: int
    """Characters of their answers."""
    unread: int
    """Ratings left out because they named no level."""


def medu(
    ask: Callable[[str], str],
    tasks: Mapping[str, Sequence[str]],
    documents: Mapping[str, Sequence[str]],
    cache: str | Path,
    *,
    characters: int = 4000,
    describe: str = DESCRIBE,
    rate: str = RATE,
    price: tuple[float, float] | None = None,
    say: Callable[[str], None] = print,
) -> Ratings:
    """Return the utility of every source for every task.

    Args:
        ask: Sends a prompt to a language model and returns its answer.
        tasks: Task -> examples of it, from a development set and not from the test.
        documents: Source -> a sample of its documents; a few hundred are enough.
        cache: File of answers, JSON lines; made if need be.
        characters: Of a document that are shown.
        describe: Prompt with {examples}.
        rate: Prompt with {description} and {document}.
        price: Of a million tokens (sent, received), to print what was spent.
        say: Told the cost at the end.

    Raises:
        DataError: A source or task without text, or none of whose ratings could be read.
    """
    _check(tasks, "task")
    _check(documents, "source")
    asker = _Asker(ask, Path(cache))
    wanted = {
        task: asker(describe.format(examples="\n\n".join(examples)))
        for task, examples in tasks.items()
    }
    utility: dict[str, dict[str, float]] = {}
    unread = 0
    for source, texts in documents.items():
        utility[source] = {}
        for task, description in wanted.items():
            prompts = [rate.format(description=description, document=t[:characters]) for t in texts]
            levels = [level_of(asker(prompt)) for prompt in prompts]
            read = [level for level in levels if level is not None]
            unread += len(levels) - len(read)
            if not read:
                raise _unreadable(source, task, asker(prompts[0]))
            utility[source][task] = sum(read) / len(read)
    say(asker.cost(price))
    return Ratings(utility, asker.asked, asker.sent, asker.received, unread)


def level_of(answer: str) -> float | None:
    """Return what the last level named in an answer is worth; None if there is none.

    Example:
        >>> level_of("Not great, it lacks proofs. **Okay**."), level_of("Hm.")
        (0.5, None)
    """
    named = [word for word in re.findall(r"[a-z]+", answer.lower()) if word in LEVELS]
    return LEVELS[named[-1]] if named else None


class _Asker:
    """Asks each prompt once, ever."""

    def __init__(self, ask: Callable[[str], str], cache: Path) -> None:
        self.asked = self.sent = self.received = 0
        self._ask, self._ledger = ask, Ledger(cache)

    def __call__(self, prompt: str) -> str:
        key = key_of(prompt)
        if not self._ledger.known(key):
            answer = self._ask(prompt)
            self.asked, self.sent = self.asked + 1, self.sent + len(prompt)
            self.received += len(answer)
            self._ledger.add(key, {"answer": answer})
        return str(self._ledger.known(key)[0]["answer"])

    def cost(self, price: tuple[float, float] | None) -> str:
        """Return what was asked, in a line; a token is taken as 4 characters."""
        tokens = self.sent / 4, self.received / 4
        text = (
            f"{self.asked} prompts asked, {len(self._ledger) - self.asked} known before; about "
            f"{tokens[0]:,.0f} tokens sent and {tokens[1]:,.0f} received"
        )
        if price is None:
            return text
        return f"{text}, {(tokens[0] * price[0] + tokens[1] * price[1]) / 1e6:,.2f} spent"


def _check(texts: Mapping[str, Sequence[str]], kind: str) -> None:
    empty = [name for name, some in texts.items() if not some]
    if empty or not texts:
        raise DataError(
            f"{kind} '{empty[0]}' without text" if empty else f"no {kind}s",
            expected=f"one text or more for every {kind}",
            where="medu",
            write="a sample of documents of each source, and development examples of each task",
        )


def _unreadable(source: str, task: str, answer: str) -> DataError:
    return DataError(
        f"no rating of source '{source}' for '{task}' could be read; one answer: {answer[:200]!r}",
        expected="answers that end in " + ", ".join(LEVELS),
        where="medu",
        write="a larger model, or a rate=... prompt of your own",
    )
