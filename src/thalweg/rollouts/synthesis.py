"""Synthesis: a small set of problems becomes a large set of problems with solutions.

    round 0      several solutions of each seed problem; those whose answer is right stay
    round 1, 2   new problems from those of the round before
                 - what is no text, known already, or stands in a benchmark is left out
                 several solutions of each; the answer most agree on is the label, and the
                 solutions that reach it stay, if enough agree

Each round's problems are the next one's seeds. Everything written is kept in a ledger beside the
result, so a killed call goes on where it was and a larger plan pays only for what is new; the
result is a function of the ledger. Rows have the fields `prompt` and `answer` that `thalweg train
sft` reads, and where they came from.

Source: arXiv:2410.01560 (OpenMathInstruct-2): 8 to 64 solutions for a known and 32 for a new
problem there, one round. Deviations: problems are cleaned before they are solved, which costs
less and changes nothing; near duplicates by MinHash and tf-idf instead of embeddings.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from thalweg.core.checkpoint import write_file
from thalweg.core.protocols import Listed, Problem, Task
from thalweg.data.duplicates import contaminated, near_duplicates
from thalweg.data.ledger import Ledger
from thalweg.errors import DataError, DialError
from thalweg.rollouts.authors import Asker, Author, Said
from thalweg.rollouts.choose import votes
from thalweg.rollouts.decontaminate import same_problems
from thalweg.rollouts.judge import Judge
from thalweg.rollouts.propose import Inspired, Proposer
from thalweg.tasks import problem_at, same_math
from thalweg.tasks.mathqa import final_answer

__all__ = ["SOLVE", "Made", "Synthesis", "synthesise"]

SOLVE = """{problem}

Solve the problem step by step, briefly. End with a line of #### and the answer alone."""
"""For a model that follows instructions; one of ours that was trained on problems: "{problem}"."""

_NUMBER = re.compile(r"-?[0-9]+(/[0-9]+)?")

Final: TypeAlias = Callable[[str], str | None]
"""A solution -> its answer, written so that equal answers are equal texts; None without."""


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """How many, and what stays.

    Example:
        >>> Synthesis(votes=16, agree=0.75).rounds
        1
    """

    seeds: int | None = None
    """Seed problems; None: all rows of a listed task."""
    solutions: int = 8
    """Solutions of a seed problem."""
    rounds: int = 1
    """Of new problems; 0: only the seeds are solved."""
    votes: int = 8
    """Solutions of a new problem."""
    agree: float = 0.5
    """Least share of them with the same answer, for that to be the label."""
    keep: int | None = None
    """Most solutions of a problem that stay; None: all."""
    characters: tuple[int, int] = (1, 4000)
    """Least and most of a solution that stays; most of a new problem."""
    similar: float | None = 0.8
    """Share of common word 5-grams from which a new problem is a double, by the extra `dedup`;
    None: only equal texts are."""
    ngram: int = 8
    """Words in a row that a new problem may not share with a benchmark."""
    neighbours: int = 0
    """Problems of the benchmark that the author compares each new one with, in two questions
    each; the paper has 5."""
    solve: str = SOLVE
    """Prompt with {problem}."""
    final: Final = final_answer
    """What votes: a top-level function; `str.strip` for answers without words around them."""
    judge: Judge = Judge()
    """Of solutions of seed problems; by itself the task's verdict."""
    seed: int = 0
    """Of the draw of seed problems."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range and a prompt without a place for the problem.

        Raises:
            DialError: One of them.
        """
        counts = (self.solutions, self.votes, self.ngram, self.keep or 1, self.characters[0])
        whole = min(counts) >= 1 and min(self.rounds, self.neighbours) >= 0
        if not (whole and 0 < self.agree <= 1 and "{problem}" in self.solve):
            raise DialError(
                f"{self}",
                expected="counts of 1 or more, agree in (0, 1], and {problem} in solve",
                where="Synthesis",
                write="Synthesis(votes=8, agree=0.5)",
            )


class Made(NamedTuple):
    """What was made, and what it took."""

    path: Path
    """JSON lines: prompt, answer, label, agreement, round, number, parent."""
    rows: int
    problems: int
    """With a solution that stayed, seeds included."""
    counts: tuple[dict[str, int], ...]
    """By round: what was proposed, left out and kept."""
    cost: str


class _Question(NamedTuple):
    """A problem of the pool."""

    number: int
    problem: Problem
    parent: int | None
    round: int


def synthesise(
    task: Task,
    author: Author,
    out: str | Path,
    plan: Synthesis = Synthesis(),
    *,
    proposer: Proposer = Inspired(),
    benchmarks: Sequence[str] = (),
    ledger: str | Path | None = None,
    price: tuple[float, float] | None = None,
    say: Callable[[str], None] = print,
) -> Made:
    """Make problems with solutions out of a task's, and write them as JSON lines.

    Args:
        task: Gives seed problems and judges their solutions: `Rows("gsm8k.jsonl")`, or any other.
        author: Writes solutions, and new problems where the proposer asks for them.
        out: File to appear, whole or not at all.
        plan: How many, and what stays.
        proposer: Where new problems come from: `Inspired()` asks the author, `Drawn(task)` draws.
        benchmarks: Texts that must not be trained on.
        ledger: File of everything the author wrote; default: beside `out`.
        price: Of a million tokens (sent, received), to print what was spent.
        say: Told the counts of each round, and the cost.

    Raises:
        DialError: A generated task, and no number of seeds.
        DataError: No solution stayed.

    Example:
        >>> from thalweg.rollouts import Caller, Drawn
        >>> from thalweg.tasks import Addition
        >>> solver = Caller(lambda prompt, number: str(sum(map(int, prompt[:-1].split("+")))))
        >>> plan = Synthesis(seeds=2, solutions=1, votes=3, solve="{problem}", similar=None)
        >>> task, new = Addition(digits=1), Drawn(Addition(), count=3)
        >>> synthesise(task, solver, "sums.jsonl", plan, proposer=new, say=lambda text: None).rows
        5
    """
    target = Path(out)
    asker = Asker(author, Ledger(ledger or target.with_suffix(".ledger.jsonl")), price)
    pool = _seeds(task, plan)
    rows, counted = _solved(task, pool, asker, plan)
    counts = [counted]
    say(_line(0, counted))
    known = [question.problem.prompt for question in pool]
    for number in range(1, plan.rounds + 1):
        proposed = proposer(tuple(question.problem for question in pool), number, asker)
        texts = [proposal.text for proposal in proposed]
        keeps, counted = _clean(texts, known, benchmarks, asker, plan)
        first = len(known)
        asked = []
        for place, index in enumerate(keeps):
            parent = _parent(pool, proposed[index].parent)
            asked.append(_Question(first + place, Problem(texts[index], ""), parent, number))
        known += [question.problem.prompt for question in asked]
        pool, added, labelled = _labelled(asked, asker, plan)
        rows, counts = rows + added, [*counts, counted | labelled]
        say(_line(number, counts[-1]))
    say(asker.cost())
    if not rows:
        raise _empty(target, counts)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return Made(
        target, len(rows), len({row["number"] for row in rows}), tuple(counts), asker.cost()
    )


def _seeds(task: Task, plan: Synthesis) -> list[_Question]:
    count = plan.seeds
    if count is None and isinstance(task, Listed):
        count = task.size
    if count is None or count < 1:
        raise DialError(
            f"seeds={count} of {type(task).__name__}",
            expected="1 or more: a generated task has no end",
            where="Synthesis.seeds",
            write="--seeds 100 (in Python seeds=100)",
        )
    problems = (problem_at(task, plan.seed, index) for index in range(count))
    return [_Question(number, problem, None, 0) for number, problem in enumerate(problems)]


def _solved(
    task: Task, pool: Sequence[_Question], asker: Asker, plan: Synthesis
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the rows of seed problems whose solutions are right."""
    rows: list[dict[str, Any]] = []
    solved = _solutions(pool, asker, plan.solutions, plan)
    for question, said in zip(pool, solved, strict=True):
        ended = [one for one in said if one.finished]
        right = [one for one in ended if plan.judge(task, question.problem, one.text).right]
        label = plan.final(question.problem.answer) or question.problem.answer
        rows += _rows(question, label, right, len(right) / len(said), plan)
    return rows, {"problems": len(pool), "solutions": len(pool) * plan.solutions, "kept": len(rows)}


def _labelled(
    asked: Sequence[_Question], asker: Asker, plan: Synthesis
) -> tuple[list[_Question], list[dict[str, Any]], dict[str, int]]:
    """Return the new problems with enough agreement, the rows of their solutions, and counts."""
    pool: list[_Question] = []
    rows: list[dict[str, Any]] = []
    for question, said in zip(asked, _solutions(asked, asker, plan.votes, plan), strict=True):
        finals = [plan.final(one.text) if one.finished else None for one in said]
        classes = votes(finals, _same)
        if not classes or len(classes[0]) / len(said) < plan.agree:
            continue
        label, agreeing = finals[classes[0][0]], [said[place] for place in classes[0]]
        problem = Problem(question.problem.prompt, label or "")
        pool.append(question._replace(problem=problem))
        rows += _rows(question, problem.answer, agreeing, len(agreeing) / len(said), plan)
    return pool, rows, {"asked": len(asked), "labelled": len(pool), "kept": len(rows)}


def _solutions(
    pool: Sequence[_Question], asker: Asker, count: int, plan: Synthesis
) -> list[list[Said]]:
    return asker([plan.solve.replace("{problem}", one.problem.prompt) for one in pool], count)


def _rows(
    question: _Question, label: str, said: Sequence[Said], agreement: float, plan: Synthesis
) -> Iterator[dict[str, Any]]:
    """Yield a row for each different solution of a length that stays."""
    low, high = plan.characters
    texts = [text for text in dict.fromkeys(one.text for one in said) if low <= len(text) <= high]
    for text in texts[: plan.keep]:
        yield {
            "prompt": question.problem.prompt, "answer": text, "label": label,
            "agreement": round(agreement, 6), "round": question.round,
            "number": question.number, "parent": question.parent,
        }  # fmt: skip


def _clean(
    texts: Sequence[str],
    known: Sequence[str],
    benchmarks: Sequence[str],
    asker: Asker,
    plan: Synthesis,
) -> tuple[list[int], dict[str, int]]:
    """Return the places of new problems that stay, and how many each step left out."""
    counts = {"proposed": len(texts)}
    keeps = [
        place
        for place, text in enumerate(texts)
        if text.strip() and len(text) <= plan.characters[1]
    ]
    counts["unreadable"] = len(texts) - len(keeps)
    seen, single = set(known), []
    for place in keeps:
        if texts[place] not in seen:
            seen.add(texts[place])
            single.append(place)
    if plan.similar is not None and single:
        new = [texts[place] for place in single]
        double = near_duplicates([*known, *new], threshold=plan.similar)[len(known) :]
        single = [place for place, twice in zip(single, double, strict=True) if not twice]
    counts["double"] = len(keeps) - len(single)
    new = [texts[place] for place in single]
    found = contaminated(new, benchmarks, ngram=plan.ngram) > 0
    if plan.neighbours and benchmarks:
        found = found | same_problems(asker, new, benchmarks, plan.neighbours)
    clean = [place for place, dirty in zip(single, found, strict=True) if not dirty]
    counts["contaminated"] = len(single) - len(clean)
    return clean, counts


def _same(one: str, other: str) -> bool | None:
    """Return whether two different texts mean the same; two numbers do not."""
    return None if _NUMBER.fullmatch(one) and _NUMBER.fullmatch(other) else same_math(one, other)


def _parent(pool: Sequence[_Question], place: int | None) -> int | None:
    return None if place is None else pool[place].number


def _line(number: int, counts: dict[str, int]) -> str:
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    return f"round {number}: {told}"


def _empty(target: Path, counts: Sequence[dict[str, int]]) -> DataError:
    return DataError(
        "no solution stayed: " + "; ".join(_line(n, one) for n, one in enumerate(counts)),
        expected="right solutions of seed problems, or new problems that enough votes agree on",
        where=str(target),
        write="a stronger author, a prompt that asks for the form of answer that `final` reads, "
        "or a smaller `agree`",
    )
