"""Rollouts: the source of every regime that learns from what a model writes.

    problems -> prompts -> the actor writes `group` answers to each -> they are judged
             -> groups without signal are left out -> rows of a batch

Everything random has a key: problem number, group number, row number. So a batch is a function of
the source's state, the seed and the actor's weights, whatever the number of processes; and the
state is two counters (and the rows of the replay window).

What is kept of an answer is what the actor wrote: token ids and their log-probs, never encoded
again. Reward functions get text.

The cases that are not the usual one:
- a prompt without a token of room for an answer is left out, another takes its place; counted as
  `skipped`, quoted in events.jsonl;
- an empty prompt is asked as it is: the end-of-text (or the chat template) stands before it;
- all groups left out: the first comes with weight 0, so that the step has a loss, 0, with a
  gradient, 0; counted as `empty`;
- a reward function that fails: see `judge`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.protocols import Context, Dial, State, Task
from thalweg.core.time import Span, share
from thalweg.data.tokenizer import Tokenizer, load_tokenizer
from thalweg.errors import DialError, RecipeError, did_you_mean
from thalweg.models import Decoder, Wrapped
from thalweg.rollouts.judge import Judge
from thalweg.rollouts.numbers import numbers, quote_failures, show
from thalweg.rollouts.prompting import check_template, prompt_ids
from thalweg.rollouts.rows import Written, columns, written
from thalweg.rollouts.sampling import Sampling
from thalweg.rollouts.vllm import Vllm
from thalweg.rollouts.write import Ask, Group, Hint, Writer
from thalweg.tasks import problem_at
from thalweg.tasks.draw import check_task

__all__ = ["Keep", "ReplayWindow", "Rollouts"]

_TRIES = 100


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Which groups are learned from: those whose mean reward lies between, bounds left out.

    Means are taken over the whole group. A group in which all answers earn the same teaches a
    method that centres rewards nothing. DAPO (arXiv:2503.14476): 0 and 1; PRIME
    (arXiv:2502.01456): 0.2 and 0.8, four times as many prompts.
    """

    low: Dial = 0.0
    """The mean must be above."""
    high: Dial = 1.0
    """The mean must be below."""
    oversample: Dial = 1.0
    """Groups written for each group wanted, 1 or more."""
    fill: bool = False
    """Whether groups that do not pass fill the batch when too few do."""


@dataclass(frozen=True, kw_only=True)
class ReplayWindow:
    """Groups of earlier steps in the batch, with the log-probs of the actor that wrote them.

    Source: arXiv:2507.06892.
    """

    share: Dial = 0.5
    """Share of the groups of a batch, once there are enough."""
    steps: Dial = 4
    """A group is used for this many steps after its own."""


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Answers of a model to the problems of a task, judged.

    `ctx.rows` rows are `ctx.rows / group` groups. Reports: `reward`, `pass@1`, `pass@k` for k half
    a group, `length`, `finished`, `unparsed`, `reward_failures`, `kept_groups`, `staleness` (steps
    since the actor's weights were taken), `skipped`, `empty`. Of the shown steps a best and a
    worst answer go to samples.jsonl.

    Example:
        >>> from thalweg.tasks import Addition
        >>> Rollouts(task=Addition(), group=4).names
        ('rollouts',)
    """

    task: Task
    """Makes problems and judges answers."""
    tokenizer: str = "bytes"
    """As the model was trained with: `bytes`, a folder, a store, or a name on the hub."""
    actor: str = "actor"
    """The model that writes. `Copy("policy", "actor", every=k)` keeps it up to date."""
    group: int = 8
    """Answers to a prompt."""
    sampling: Sampling = Sampling()
    """How answers are written. Nothing may be cut off: see `Sampling.exact`."""
    judge: Judge = Judge()
    """How answers are judged: by the task, or by a function of yours."""
    level: Dial = 0.0
    """Passed to the task: how much harder than constructed."""
    first: int = 0
    """Number of the first problem."""
    problems: int | None = None
    """How many problems there are, gone through again and again; None: ever new ones."""
    template: str | None = None
    """How a prompt is written: `{prompt}` and `{answer}` as in `build_pairs`. None: the
    tokenizer's chat template, or the prompt and a newline."""
    length: int = 256
    """Most targets of a row, prompt and answer together."""
    truncated: Literal["judge", "zero", "mask"] = "judge"
    """An answer that ran out of tokens: judge it as it is, give it 0, or judge it and give it
    weight 0 (its reward still counts in the mean of its group)."""
    keep: Keep | None = None
    """Which groups are learned from; None: all."""
    hint: Hint | None = None
    """Help for some rows."""
    replay: ReplayWindow | None = None
    """Rows of earlier steps."""
    server: Vllm | None = None
    """Writes instead of this process, with the actor's weights."""
    slots: int = 64
    """Rows written at once on a rank."""
    multiple: int = 32
    """Rows are padded to a multiple of so many targets: a compiled model compiles each length."""
    show: Span = share(0.05)
    """Distance between steps of which answers are shown."""
    name: str = "rollouts"

    @property
    def makes(self) -> tuple[str, ...]:
        """Columns of every batch."""
        answer = ("tokens", "weight", "old", "reward", "group")
        foreign = ("sampler",) if self.server is not None else ()
        return (*answer, "source", "id", "version", "finished", "guided", *foreign)

    @property
    def names(self) -> tuple[str, ...]:
        """One name, its own."""
        return (self.name,)

    @property
    def block(self) -> int:
        """Rows it must be asked for, or a multiple: those of a group."""
        return self.group

    def start(self, ctx: Context) -> State:
        """Return the state before the first batch.

        Raises:
            RecipeError: A task without problems, no such actor, rows that are no whole groups,
                sampling that is cut, a tokenizer with more ids than the actor knows, or experts
                that drop tokens.
            DialError: A number out of range.
        """
        if ctx.models:  # a plan has none
            self._check(ctx)
            check_task(self.task, float(self.level))
            _check_model(self, ctx.models[self.actor].module)
        if self.server is not None:
            self.server.check()
        return {"asked": 0, "replay": []}

    def next(self, state: State, ctx: Context) -> tuple[Batch, State]:
        """Return a batch of about `ctx.rows` rows, and the next state.

        Raises:
            RecipeError: Every call of the reward function failed, or no prompt fits a row.
        """
        self._check(ctx)
        tokenizer = load_tokenizer(self.tokenizer)
        wanted = ctx.rows // self.group
        again = self._again(state["replay"], wanted, ctx)
        fresh = wanted - len(again)
        keep = self.keep or Keep(low=-math.inf, high=math.inf)
        asks, asked = self._asks(
            int(state["asked"]), math.ceil(fresh * float(keep.oversample)), tokenizer, ctx
        )
        version = self._version(ctx)
        groups = self._written(asks, version, tokenizer, ctx)
        passed = [group for group in groups if keep.low < group.mean < keep.high]
        self._tell(groups, passed, version, ctx)
        rest = [group for group in groups if group not in passed] if keep.fill else []
        rows = [self._rows(group, version) for group in (passed + rest)[:fresh]]
        replay = _window(self.replay, [*state["replay"], [int(ctx.time.run_step), rows]], ctx)
        chosen = [row for group in [*rows, *again] for row in group]
        if not chosen:
            ctx.note("empty", "no group passed the filter: the loss of this step is 0")
            chosen = [{**row, "counts": 0.0} for row in self._rows(groups[0], version)]
        batch = columns(chosen, multiple=self.multiple, padding=tokenizer.end_id, most=self.length)
        if self.server is not None:
            batch = batch.plus({"sampler": batch["old"]})
        return batch, {"asked": asked, "replay": replay}

    def _check(self, ctx: Context) -> None:
        """Refuse what cannot work; numbers are frozen here, so this looks at every step."""
        self.sampling.check(f"{self.name}.sampling")
        check_template(self.template)
        if self.sampling.cut or self.sampling.temperature == 0:
            raise _refusal(
                f"{self.sampling}",
                "tokens drawn from the actor's own distribution: what top_k, top_p, min_p or "
                "temperature 0 leave out makes the sampler's log-probs larger than the trainer's, "
                "and the ratio between the two is no longer 1 on policy",
                f"{self.name}.sampling",
                "Sampling(temperature=1.0); cut only when you evaluate",
            )
        self._check_numbers()
        if ctx.rows % self.group or ctx.rows < self.group:
            raise _refusal(
                f"a batch of {ctx.rows} rows in groups of {self.group}",
                "rows that are a multiple of group",
                f"{self.name}.group",
                f"rows={max(1, round(ctx.rows / self.group)) * self.group}",
            )
        if self.actor not in ctx.models:
            raise _refusal(
                f"actor '{self.actor}'",
                "a model of the recipe",
                f"{self.name}.actor",
                did_you_mean(self.actor, ctx.models),
            )

    def _check_numbers(self) -> None:
        limits: dict[str, tuple[Any, int]] = {
            "group": (self.group, 1),
            "length": (self.length, 2),
            "problems": (self.problems, 1),
            "multiple": (self.multiple, 1),
            "slots": (self.slots, 1),
            "sampling.new_tokens": (self.sampling.new_tokens, 1),
            "keep.oversample": (self.keep and self.keep.oversample, 1),
        }
        for name, (value, least) in limits.items():
            if value is not None and value < least:
                raise DialError(
                    f"{name}={value} is too small",
                    expected=f"{least} or more",
                    where=f"{self.name}.{name}",
                    write=f"{name.rpartition('.')[2]}=8",
                )

    def _asks(
        self, first: int, count: int, tokenizer: Tokenizer, ctx: Context
    ) -> tuple[list[Ask], int]:
        """Return the next problems whose prompts leave room for an answer, and where they end."""
        found: list[Ask] = []
        number, skipped = first, 0
        while len(found) < count:
            turn = number if self.problems is None else number % self.problems
            problem = problem_at(self.task, ctx.seed, self.first + turn, float(self.level))
            ids = prompt_ids(tokenizer, problem.prompt, self.template)
            if len(ids) <= self.length:
                found.append(Ask(number, problem, ids))
            else:
                skipped += 1
                if skipped == 1:
                    text = f"left out a prompt of {len(ids)} tokens: {problem.prompt[:80]!r}"
                    ctx.note("skipped", text)
            if skipped >= _TRIES * count:
                raise _refusal(
                    f"{skipped} prompts in a row of {len(ids)} tokens and the like",
                    f"prompts of at most {self.length} tokens",
                    f"{self.name}.length",
                    "a longer length, or shorter prompts",
                )
            number += 1
        ctx.log({"skipped": float(skipped)})
        return found, number

    def _version(self, ctx: Context) -> int:
        """Return the step of the run after which the actor got its weights.

        Copy reports it; an actor that nothing is copied to is the model that learns.
        """
        now = int(ctx.time.run_step)
        return int(ctx.last.get("report", {}).get(f"version/{self.actor}", now))

    def _written(
        self, asks: Sequence[Ask], version: int, tokenizer: Tokenizer, ctx: Context
    ) -> list[Group]:
        learner = ctx.models[self.actor]
        if self.server is not None:
            self.server.publish(learner, version)
        writer = Writer(
            task=self.task, tokenizer=tokenizer, judge=self.judge, sampling=self.sampling,
            group=self.group, template=self.template, longest=self.length + 1, seed=ctx.seed,
            slots=self.slots, compiled=learner.compiled, hint=self.hint,
            judges_truncated=self.truncated != "zero", server=self.server,
        )  # fmt: skip
        return learner.generate(asks, writer)

    def _rows(self, group: Group, version: int) -> list[Written]:
        """Return the rows of a group as plain data."""
        number = group.ask.number
        return [
            written(
                group.ask.prompt,
                one.answer.tokens,
                one.answer.logprobs,
                {
                    "reward": one.judged.reward,
                    "group": number,
                    "id": number * self.group + place,
                    "version": version,
                    "finished": one.answer.finished,
                    "guided": one.guided,
                    "counts": float(one.answer.finished or self.truncated != "mask"),
                },
            )
            for place, one in enumerate(group.tries)
        ]

    def _again(self, kept: Sequence[Any], wanted: int, ctx: Context) -> list[list[Written]]:
        """Return groups of earlier steps, drawn without repetition."""
        groups = [group for _, groups in _window(self.replay, kept, ctx) for group in groups]
        if self.replay is None or not groups:
            return []
        count = min(round(float(self.replay.share) * wanted), len(groups), wanted - 1)
        drawn = ctx.rng("replay", int(ctx.time.run_step)).permutation(len(groups))[:count]
        return [groups[place] for place in sorted(drawn.tolist())]

    def _tell(
        self, groups: Sequence[Group], passed: Sequence[Group], version: int, ctx: Context
    ) -> None:
        now = int(ctx.time.run_step)
        share_kept = len(passed) / max(len(groups), 1)
        ctx.log({**numbers(groups), "kept_groups": share_kept, "staleness": float(now - version)})
        quote_failures(ctx, groups, f"{self.name}.judge")
        if _due(self.show, ctx):
            show(ctx, groups)


def _window(replay: ReplayWindow | None, kept: Sequence[Any], ctx: Context) -> list[Any]:
    """Return the [step, groups] entries that this step may still use."""
    if replay is None:
        return []
    oldest = int(ctx.time.run_step) - int(replay.steps)
    return [entry for entry in kept if entry[0] >= oldest]


def _due(every: Span, ctx: Context) -> bool:
    """Return whether answers of this step are shown: the first, and at this distance."""
    time = ctx.time.within(10_000) if ctx.time.steps is None else ctx.time
    return int(time.step) % max(every.of(time), 1) == 0


def _check_model(source: Rollouts, module: nn.Module) -> None:
    if not isinstance(module, Decoder | Wrapped):
        return
    limits = module.spec if isinstance(module, Decoder) else module
    tokenizer = load_tokenizer(source.tokenizer)
    if limits.vocabulary < tokenizer.size:
        raise _refusal(
            f"a tokenizer of {tokenizer.size} ids for a model that knows {limits.vocabulary}",
            "the tokenizer that the actor was trained with",
            f"{source.name}.tokenizer",
            "the folder of the model, or of the store it was trained on",
        )
    if limits.positions < source.length:
        raise _refusal(
            f"rows of {source.length} targets for a model of {limits.positions} positions",
            "rows that the actor can read",
            f"{source.name}.length",
            f"length={limits.positions}",
        )
    if isinstance(module, Decoder) and module.spec.moe and module.spec.moe.capacity is not None:
        raise _refusal(
            f"experts of capacity {module.spec.moe.capacity}",
            "experts that drop nothing: the trainer would drop tokens that the sampler did not",
            f"{source.name}.actor",
            "Moe(capacity=None)",
        )


def _refusal(given: str, expected: str, where: str, write: str) -> RecipeError:
    return RecipeError(given, expected=expected, where=where, write=write)
