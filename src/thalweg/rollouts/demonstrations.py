"""Demonstrations: the problems of a task with the answers it gives, as rows to learn from.

    problems -> prompt, answer, end of text -> weight 1 on the answer and its end

The columns are those of `Rollouts`, so both may stand in one mixture: a demonstration is a group
of its own with reward 1; nobody sampled it, so `old` is 0 and no ratio should be taken on it.
"""

from dataclasses import dataclass

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Dial, State, Task
from thalweg.data.tokenizer import load_tokenizer
from thalweg.errors import RecipeError
from thalweg.rollouts.prompting import check_template, prompt_ids
from thalweg.rollouts.rows import Written, columns, written
from thalweg.tasks import problem_at
from thalweg.tasks.draw import check_task

__all__ = ["Demonstrations"]

_TRIES = 100


@dataclass(frozen=True, kw_only=True)
class Demonstrations:
    """Right answers to the problems of a task, one a row.

    State: problems asked so far. Problems that do not fit a row are left out; reports `skipped`.

    Example:
        >>> from thalweg.tasks import Addition
        >>> from thalweg.core.time import Time
        >>> source = Demonstrations(task=Addition(), template="{prompt}{answer}", multiple=1)
        >>> batch, state = source.next({"asked": 0}, Context(Time(0, 9), rows=2))
        >>> batch.rows, state
        (2, {'asked': 2})
    """

    task: Task
    """Makes problems with their answers."""
    tokenizer: str = "bytes"
    """As the model was trained with: `bytes`, a folder, a store, or a name on the hub."""
    level: Dial = 0.0
    """Passed to the task: how much harder than constructed."""
    first: int = 0
    """Number of the first problem."""
    problems: int | None = None
    """How many problems there are, gone through again and again; None: ever new ones."""
    template: str | None = None
    """As `Rollouts.template`."""
    length: int = 256
    """Most targets of a row, prompt and answer together."""
    multiple: int = 32
    """Rows are padded to a multiple of so many targets."""
    name: str = "demonstrations"

    @property
    def makes(self) -> tuple[str, ...]:
        """Columns of every batch."""
        answer = ("tokens", "weight", "old", "reward", "group")
        return (*answer, "source", "id", "version", "finished", "guided")

    @property
    def names(self) -> tuple[str, ...]:
        """One name, its own."""
        return (self.name,)

    def start(self, ctx: Context) -> State:
        """Return the state before the first row.

        Raises:
            RecipeError: A template without places for prompt and answer, or a task without
                problems.
        """
        check_template(self.template)
        check_task(self.task, float(self.level))
        return {"asked": 0}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return `ctx.rows` rows and the next state.

        Raises:
            RecipeError: No problem fits a row.
        """
        tokenizer = load_tokenizer(self.tokenizer)
        number = int(state["asked"])
        last = number + _TRIES * ctx.rows
        rows: list[Written] = []
        while len(rows) < ctx.rows and number < last:
            row = self._row(number, ctx)
            rows += [row] if len(row["tokens"]) <= self.length + 1 else []
            number += 1
        if len(rows) < ctx.rows:
            raise RecipeError(
                f"{number - int(state['asked']) - len(rows)} problems longer than a row",
                expected=f"prompts and answers of at most {self.length + 1} tokens",
                where=f"{self.name}.length",
                write="a longer length, or shorter problems",
            )
        ctx.log({"skipped": float(number - int(state["asked"]) - len(rows))})
        batch = columns(rows, multiple=self.multiple, padding=tokenizer.end_id, most=self.length)
        return batch, {"asked": number}

    def _row(self, number: int, ctx: Context) -> Written:
        tokenizer = load_tokenizer(self.tokenizer)
        turn = number if self.problems is None else number % self.problems
        problem = problem_at(self.task, ctx.seed, self.first + turn, float(self.level))
        answer = [*tokenizer.encode(problem.answer), tokenizer.end_id]
        facts = {"reward": 1.0, "group": -1 - number, "id": number, "version": 0}
        return written(
            prompt_ids(tokenizer, problem.prompt, self.template),
            answer,
            [0.0] * len(answer),
            {**facts, "finished": True, "guided": False, "counts": 1.0},
        )
