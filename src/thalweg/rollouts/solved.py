"""How many problems a model solves while a run goes on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from thalweg.core.protocols import Context, Dial, Listed, Problem, Task
from thalweg.core.time import Span, share
from thalweg.data.tokenizer import load_tokenizer
from thalweg.rollouts.judge import Judge
from thalweg.rollouts.numbers import numbers, show
from thalweg.rollouts.prompting import prompt_ids
from thalweg.rollouts.sampling import Sampling
from thalweg.rollouts.write import Ask, Writer
from thalweg.tasks import problem_at
from thalweg.tasks.draw import no_levels, row_at

__all__ = ["Solved"]

FIRST = 1_000_000_000
"""Number of the first problem that is kept for measuring: no run gets so far."""
_SEED = 0
"""Of problems and draws: runs of several seeds are measured alike."""


@dataclass(frozen=True, kw_only=True)
class Solved:
    """Answers to problems kept for measuring: `heldout/pass@1`, `heldout/reward` and the like.

    Always the same problems and the same draws, whatever the run's seed, so points of one run and
    of several compare. Of a generated task the problems are those of seed 0 from number
    1,000,000,000 on: another draw than the run's, which for a task of few problems may well repeat
    some of them. Of a listed one they are its first rows: give it a file that is not trained on.
    """

    task: Task
    """Makes problems and judges answers."""
    tokenizer: str = "bytes"
    """As the model was trained with."""
    model: str = "policy"
    every: Dial | Span = share(0.05)
    """Distance between measurements."""
    problems: int = 64
    """How many are asked; of a list at most all."""
    answers: int = 1
    """Answers to each; with 2 k or more, `heldout/pass@k` is reported too."""
    sampling: Sampling = Sampling()
    """How answers are written; here they may be cut or greedy."""
    judge: Judge = Judge()
    level: Dial = 0.0
    template: str | None = None
    """As `Rollouts.template`."""
    length: int = 256
    """Most targets of a row; longer prompts are left out."""
    slots: int = 64
    """Rows written at once on a rank."""
    show: int = 0
    """How many of the problems go into samples.jsonl with their best and worst answer; a source
    of rollouts shows its own."""

    @property
    def name(self) -> str:
        """Return `solved`, its place in paths."""
        return "solved"

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return the numbers now."""
        tokenizer = load_tokenizer(self.tokenizer)
        learner = ctx.models[self.model]
        asks = []
        for number, problem in enumerate(self._kept()):
            ids = prompt_ids(tokenizer, problem.prompt, self.template)
            if len(ids) <= self.length:
                asks.append(Ask(FIRST + number, problem, ids))
        writer = Writer(
            task=self.task, tokenizer=tokenizer, judge=self.judge, sampling=self.sampling,
            group=self.answers, template=self.template, longest=self.length + 1, seed=_SEED,
            slots=self.slots, compiled=learner.compiled,
        )  # fmt: skip
        groups = learner.generate(asks, writer)
        for group in groups[: self.show]:
            show(ctx, [group])
        found = numbers(groups)
        return {f"heldout/{name}": value for name, value in found.items() if "fail" not in name}

    def _kept(self) -> Iterator[Problem]:
        """Give the problems that are kept for measuring."""
        if isinstance(self.task, Listed):
            no_levels(type(self.task).__name__, float(self.level))
            for index in range(min(self.problems, self.task.size)):
                yield row_at(self.task, index)
            return
        for number in range(self.problems):
            yield problem_at(self.task, _SEED, FIRST + number, float(self.level))
