"""What a step of rollouts reports: numbers for the history, texts for the samples."""

from collections.abc import Sequence

from thalweg.core.protocols import Context
from thalweg.errors import RecipeError
from thalweg.rollouts.choose import pass_at_k
from thalweg.rollouts.write import Group, Try

__all__ = ["numbers", "quote_failures", "show"]


def numbers(groups: Sequence[Group]) -> dict[str, float]:
    """Return means over all answers that were written, whether they are learned from or not.

    `sampled_entropy` is minus the mean log-prob of the drawn tokens, nats: an estimate without bias
    of the entropy at the temperature they were drawn at, whatever the objective reports. Answers
    written with a hint are left out of it and of `pass@k`.
    """
    tries = [one for group in groups for one in group.tries]
    if not tries:
        return {}
    judged = [one.judged for one in tries]
    found = {
        "reward": _mean([one.reward for one in judged]),
        "length": _mean([float(len(one.answer.tokens)) for one in tries]),
        "finished": _mean([float(one.answer.finished) for one in tries]),
        "unparsed": _mean([float(one.verdict == "unparsed") for one in judged]),
        "reward_failures": float(sum(one.failed for one in judged)),
    }
    drawn = [value for one in tries if not one.guided for value in one.answer.logprobs]
    if drawn:
        found["sampled_entropy"] = -_mean(drawn)
    for name in sorted({name for one in judged for name in one.parts}):
        found[f"reward/{name}"] = _mean([one.parts[name] for one in judged if name in one.parts])
    return {**found, **_passes(groups)}


def quote_failures(ctx: Context, groups: Sequence[Group], where: str) -> None:
    """Write the first failed reward call of a step into the events.

    Raises:
        RecipeError: All of them failed.
    """
    tries = [one for group in groups for one in group.tries]
    failed = [one for one in tries if one.judged.failed]
    if not failed:
        return
    first = failed[0].judged
    said = f"{len(failed)} of {len(tries)} reward calls failed; the first {first.verdict}: "
    if len(failed) == len(tries):
        raise RecipeError(
            said + first.problem,
            expected="a reward for at least one answer of a step",
            where=where,
            write="a function (prompt, answer, problem) -> float, finite and quick; of a task, a "
            "verify that returns Grade(1.0) or Grade(0.0)",
        )
    ctx.note("reward", said + first.problem)


def show(ctx: Context, groups: Sequence[Group]) -> None:
    """Write the best and the worst answer to the first prompt into the samples."""
    if not groups:
        return
    tries = sorted(groups[0].tries, key=lambda one: -one.judged.reward)
    for one in tries[:: max(len(tries) - 1, 1)][:2]:
        ctx.sample(
            {
                "prompt": groups[0].ask.problem.prompt,
                "text": one.text,
                "verdict": one.judged.verdict,
                "reward": one.judged.reward,
                "expected": groups[0].ask.problem.answer,
            }
        )


def _passes(groups: Sequence[Group]) -> dict[str, float]:
    own = [[one for one in group.tries if not one.guided] for group in groups]
    counts = [(len(tries), _right(tries)) for tries in own if tries]
    if not counts:
        return {}
    half = min(total for total, _ in counts) // 2
    return {
        f"pass@{k}": _mean([pass_at_k(total, right, k) for total, right in counts])
        for k in sorted({1, half} - {0})
    }


def _right(tries: Sequence[Try]) -> int:
    return sum(one.judged.right for one in tries)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
