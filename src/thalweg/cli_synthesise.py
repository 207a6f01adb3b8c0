"""`thalweg synthesise`: a few problems become many with solutions, for `thalweg train sft`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from thalweg.core.protocols import Task
    from thalweg.rollouts.authors import Author
    from thalweg.rollouts.propose import Proposer

__all__ = ["synthesise"]


def synthesise(
    out: Annotated[Path, typer.Argument(help="JSON lines to write: prompt, answer, label ...")],
    task: Annotated[
        str, typer.Option(help="Problems: Addition(digits=2), a .jsonl file, or FILE.py:NAME.")
    ],
    model: Annotated[
        str, typer.Option(help="Who writes: a run, a folder or a hub name; with --url its name.")
    ],
    url: Annotated[
        str | None, typer.Option(help="A server of chat completions: http://127.0.0.1:8000/v1.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Problems to start from; a file's all.")] = None,
    solutions: Annotated[int, typer.Option(help="Solutions of each of them.")] = 8,
    rounds: Annotated[int, typer.Option(help="Rounds of new problems; 0: none.")] = 1,
    each: Annotated[int, typer.Option(help="New problems that are asked for one old.")] = 2,
    draw: Annotated[
        int, typer.Option(help="Instead: new problems of a round, drawn from the task.")
    ] = 0,
    rise: Annotated[float, typer.Option(help="With --draw: levels to rise by each round.")] = 0.0,
    votes: Annotated[int, typer.Option(help="Solutions of a new problem.")] = 8,
    agree: Annotated[float, typer.Option(help="Share of them with one answer, for a label.")] = 0.5,
    keep: Annotated[int | None, typer.Option(help="Most solutions of a problem that stay.")] = None,
    similar: Annotated[
        float, typer.Option(help="Likeness that makes a double (extra dedup); 0: equal texts.")
    ] = 0.0,
    benchmark: Annotated[
        list[str] | None, typer.Option(help="Problems that must not come, as --task; repeatable.")
    ] = None,
    solve: Annotated[
        str | None, typer.Option(help="Prompt with {problem}; plain for a model of ours.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="At which answers are drawn.")] = 0.7,
    new_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.")] = 512,
    template: Annotated[
        str | None, typer.Option(help="How prompt and answer are joined, by a model of ours.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="A folder or hub name; the model's own if not given.")
    ] = None,
    price: Annotated[
        tuple[float, float] | None, typer.Option(help="Of a million tokens sent and received.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of problems and draws.")] = 0,
) -> None:
    """Let a model solve problems, invent new ones and label them by vote; killed, it goes on."""
    from thalweg.recipes.named import task_of
    from thalweg.rollouts import Synthesis
    from thalweg.rollouts import synthesise as made_of
    from thalweg.rollouts.synthesis import SOLVE

    problems = task_of(task)
    plan = Synthesis(
        seeds=seeds, solutions=solutions, rounds=rounds, votes=votes, agree=agree, keep=keep,
        similar=similar or None, solve=solve or (SOLVE if url else "{problem}"), seed=seed,
    )  # fmt: skip
    author = _author(model, url, temperature, new_tokens, template, tokenizer, seed)
    made = made_of(
        problems, author, out, plan,
        proposer=_proposer(problems, each, draw, rise, seed),
        benchmarks=[text for name in benchmark or [] for text in _texts(name)],
        price=price,
    )  # fmt: skip
    print(f"{made.path}: {made.rows:,} solutions of {made.problems:,} problems")
    print(f"next:\n  thalweg train sft --model RUN --data {made.path}")


def _author(
    model: str,
    url: str | None,
    temperature: float,
    new_tokens: int,
    template: str | None,
    tokenizer: str | None,
    seed: int,
) -> "Author":
    """Return a server's model, or a trained one in this process."""
    from thalweg.recipes.parts import trained_model
    from thalweg.recipes.readers import tokenizer_of
    from thalweg.rollouts import ChatServer, Local, Sampling

    if url is not None:
        return ChatServer(
            model=model, url=url, temperature=temperature, new_tokens=new_tokens, seed=seed
        )
    spec = trained_model(model)
    return Local(
        model=spec,
        tokenizer=tokenizer_of(spec, tokenizer),
        sampling=Sampling(new_tokens=new_tokens, temperature=temperature),
        template=template,
        seed=seed,
    )


def _proposer(problems: "Task", each: int, draw: int, rise: float, seed: int) -> "Proposer":
    """Return who makes new problems: the author, or a task that can be drawn from."""
    from thalweg.core.protocols import Listed
    from thalweg.errors import RecipeError
    from thalweg.rollouts import Drawn, Inspired

    if not draw:
        return Inspired(each)
    if isinstance(problems, Listed):
        raise RecipeError(
            f"--draw {draw} from a file of problems",
            expected="a generated task: a file has no others than its own",
            where="--draw",
            write=f"--each {each}, or --task 'Addition(digits=2)'",
        )
    return Drawn(problems, count=draw, rise=rise, seed=seed + 1)


def _texts(name: str) -> list[str]:
    """Return the problems of a benchmark.

    Raises:
        RecipeError: A generated task, which has no end.
    """
    from thalweg.core.protocols import Listed
    from thalweg.errors import RecipeError
    from thalweg.recipes.named import task_of

    task = task_of(name, "--benchmark")
    if not isinstance(task, Listed):
        raise RecipeError(
            f"'{name}', a generated task",
            expected="a file of problems",
            where="--benchmark",
            write="--benchmark test.jsonl",
        )
    return [task.problem(number).prompt for number in range(task.size)]
