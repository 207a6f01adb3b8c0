"""One group: a prompt, its answers, what they earned, and the help it got.

This runs on the rank that holds the group; everything it needs and returns is plain data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.moves import logprobs
from thalweg.core.protocols import Dial, Problem, Task
from thalweg.data.tokenizer import Tokenizer
from thalweg.rollouts.engine import Answer, generate, text_of
from thalweg.rollouts.judge import Judge, Judged
from thalweg.rollouts.prompting import prompt_ids
from thalweg.rollouts.sampling import Sampling
from thalweg.rollouts.vllm import Vllm

__all__ = ["Ask", "Group", "Hint", "Try", "Writer"]


@dataclass(frozen=True, kw_only=True)
class Hint:
    """Help for some rows of a group; they are trained on without it.

    The row keeps its plain prompt; its log-probs are those of whoever wrote it, under what they
    saw. Such rows have `guided` set, and an objective may treat them apart: the ratio to a
    behaviour that saw more is large. Sources: arXiv:2506.13923 (a hint in the prompt, for groups
    that failed), arXiv:2508.07616 (a teacher's words in the answer).
    """

    fn: Callable[[Problem], str]
    """A top-level function. For place "prompt" the whole prompt that is answered instead; for
    "answer" the teacher's words that the answer begins with. Empty text: no help here."""
    rows: Dial = 1
    """Rows of the group that are written with help, its last ones."""
    when: Literal["failed", "always"] = "failed"
    """failed: only if no answer of the group is right."""
    place: Literal["prompt", "answer"] = "prompt"
    """Where the help stands. In the answer its tokens are learned as well; their log-probs are
    the actor's own, under the plain prompt."""


class Ask(NamedTuple):
    """What a group is made from."""

    number: int
    """Of the group in the run; names its draws."""
    problem: Problem
    prompt: list[int]


class Try(NamedTuple):
    """One answer and what it earned."""

    answer: Answer
    text: str
    judged: Judged
    guided: bool


class Group(NamedTuple):
    """All answers to a prompt."""

    ask: Ask
    tries: list[Try]

    @property
    def mean(self) -> float:
        """The mean reward."""
        return sum(one.judged.reward for one in self.tries) / len(self.tries)


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes and judges the groups of a step."""

    task: Task
    tokenizer: Tokenizer
    judge: Judge
    sampling: Sampling
    group: int
    template: str | None
    longest: int
    """Most tokens of a row."""
    seed: int
    slots: int
    compiled: bool
    hint: Hint | None = None
    judges_truncated: bool = True
    server: Vllm | None = None
    """Writes instead of this process."""

    def __call__(self, module: nn.Module, asks: list[Ask]) -> list[Group]:
        """Return the groups, in order."""
        keys = [ask.number for ask in asks]
        found = self._write(module, [ask.prompt for ask in asks], keys, self.group)
        groups = [
            Group(ask, [self._tried(ask, answer) for answer in answers])
            for ask, answers in zip(asks, found, strict=True)
        ]
        return self._helped(module, groups) if self.hint is not None else groups

    def _write(
        self,
        module: nn.Module,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[int],
        group: int,
        first: int = 0,
    ) -> list[list[Answer]]:
        """Return `group` answers to each prompt, numbered from `first`."""
        if self.server is not None:
            return self.server.answers(
                prompts, self.sampling, group=group, keys=keys, first=first, seed=self.seed,
                end_id=self.tokenizer.end_id, longest=self.longest,
            )  # fmt: skip
        return generate(
            module, prompts, self.sampling, group=group, keys=keys, first=first, seed=self.seed,
            end_id=self.tokenizer.end_id, decode=self.decode, longest=self.longest,
            slots=self.slots, compiled=self.compiled,
        )  # fmt: skip

    def _tried(self, ask: Ask, answer: Answer, *, guided: bool = False) -> Try:
        text = text_of(answer, self.decode, self.sampling.stop)
        if not (self.judges_truncated or answer.finished):
            return Try(answer, text, Judged(0.0, "truncated"), guided)
        return Try(answer, text, self.judge(self.task, ask.problem, text), guided)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return text without special tokens."""
        return self.tokenizer.decode(tokens, special=False)

    def _helped(self, module: nn.Module, groups: list[Group]) -> list[Group]:
        """Write the last rows of groups that need it anew, with help."""
        hint = self.hint
        assert hint is not None  # asked before
        count = min(int(hint.rows), self.group)
        helps: dict[int, tuple[list[int], list[int]]] = {}
        for place, group in enumerate(groups):
            if hint.when == "failed" and any(one.judged.right for one in group.tries):
                continue
            help = self._help(hint, group.ask) if count else None
            if help is not None:
                helps[place] = help
        if not helps:
            return groups
        prompts = [seen + begun for seen, begun in helps.values()]
        keys = [groups[place].ask.number for place in helps]
        found = self._write(module, prompts, keys, count, first=self.group)
        changed = list(groups)
        for (place, (seen, begun)), answers in zip(helps.items(), found, strict=True):
            ask, tries = groups[place]
            added = self._begun(module, seen, begun, answers) if begun else answers
            new = [self._tried(ask, self._fitting(ask, one), guided=True) for one in added]
            changed[place] = Group(ask, tries[: self.group - count] + new)
        return changed

    def _help(self, hint: Hint, ask: Ask) -> tuple[list[int], list[int]] | None:
        """Return the prompt that is seen and the beginning of the answer; None without help."""
        text = hint.fn(ask.problem)
        if not text:
            return None
        if hint.place == "prompt":
            seen, begun = prompt_ids(self.tokenizer, text, self.template), list[int]()
        else:
            seen, begun = ask.prompt, self.tokenizer.encode(text)
        return (seen, begun) if len(seen) + len(begun) < self.longest else None

    def _fitting(self, ask: Ask, answer: Answer) -> Answer:
        """Return what fits a row behind the plain prompt, perhaps longer than what was seen."""
        room = self.longest - len(ask.prompt)
        if len(answer.tokens) <= room:
            return answer
        return Answer(answer.tokens[:room], answer.logprobs[:room], finished=False)

    def _begun(
        self, module: nn.Module, prompt: list[int], begun: list[int], answers: list[Answer]
    ) -> list[Answer]:
        """Return the answers with the teacher's words before them, scored by the module."""
        device = next(module.parameters()).device
        row = Batch({"tokens": torch.tensor([prompt + begun], device=device)})
        with torch.no_grad():
            before = logprobs(module, row)[0, len(prompt) - 1 :].float().tolist()
        return [
            Answer(begun + answer.tokens, before + answer.logprobs, answer.finished)
            for answer in answers
        ]
