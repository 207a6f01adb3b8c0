"""A plan in lines: what a person reads before spending anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.core.cost import activation_bytes, flops_by_phase, model_facts, state_bytes
from thalweg.core.dials import phase_length
from thalweg.core.grow import models_at
from thalweg.core.learner import Learner
from thalweg.core.moves import Learn
from thalweg.core.plan import Plan
from thalweg.core.recipe import Recipe
from thalweg.core.world import World
from thalweg.data import PLAIN_TEMPLATE
from thalweg.data.tokenizer import load_tokenizer
from thalweg.laws.pilots import Pilot
from thalweg.laws.planner import BUDGETS, Advice
from thalweg.laws.prediction import Prediction
from thalweg.objectives import NextToken, choices
from thalweg.report.numbers import bytes_text, count_text, number_text
from thalweg.rollouts import Rollouts

__all__ = ["Cost", "advice_text", "chosen", "cost", "description", "pilots_text"]

AT = (0.0, 0.05, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of the run at which dials are printed."""


@dataclass(frozen=True)
class Cost:
    """What a recipe's models cost."""

    parameters: dict[str, int]
    """At the start."""
    grown: dict[str, dict[str, int]]
    """Phase -> model -> parameters from there on, where models grow."""
    flops_per_token: float
    """Training FLOPs of a target token in the last phase, all models that learn there."""
    flops: float | None
    """Of the whole run, each phase its own; None: endless; 0: nobody counts tokens."""
    state_bytes: int
    """Weights, gradients and two moments, in float32."""
    activation_bytes: int
    """A rough bound: what a micro-batch keeps for the backward pass."""


def cost(recipe: Recipe) -> Cost:
    """Return the cost of a recipe's models, built without memory where that is possible."""
    start, end = models_at(recipe, 0, 0), models_at(recipe, len(recipe.phases), 0)
    models, state, activations = {}, 0, 0
    for name, spec in end.items():
        learner = Learner(name, spec.build(recipe.seed), World())
        first = learner if start[name] == spec else Learner(name, start[name].build(0), World())
        models[name] = model_facts(name, first, recipe)
        state += state_bytes(recipe, name, learner)
        activations += activation_bytes(recipe, name, learner)
    each = flops_by_phase(models, recipe)
    parameters = {name: facts["parameters"] for name, facts in models.items()}
    last = each[recipe.phases[-1].name]
    return Cost(parameters, _grown(models), last, _in_all(recipe, each), state, activations)


def _grown(models: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the parameters of the models that grow, by the phase in which they do."""
    found: dict[str, dict[str, int]] = {}
    for name, facts in models.items():
        for stage in facts.get("stages", ()):
            found.setdefault(stage["phase"], {})[name] = stage["parameters"]
    return found


def _in_all(recipe: Recipe, each: Mapping[str, float]) -> float | None:
    """Return the FLOPs of all phases at the price of each; None if one is endless."""
    total = 0.0
    for phase in recipe.phases:
        steps, tokens = phase_length(phase)
        if steps is None:
            return None
        total += steps * tokens * each[phase.name]
    return total


def description(plan: Plan, recipe: Recipe) -> str:
    """Return the plan and its cost as text."""
    found = cost(recipe)
    steps, tokens = "endless", f"{count_text(phase_length(recipe.phases[-1])[1])} a step"
    if plan.steps is not None:
        steps, tokens = f"{plan.steps:,}", count_text(plan.tokens)
    lines = [f"steps       {steps}", f"tokens      {tokens}"]
    lines += [f"parameters  {n}: {count_text(c)}" for n, c in found.parameters.items()]
    for phase, models in found.grown.items():
        lines += [f"            {n}: {count_text(c)} from '{phase}' on" for n, c in models.items()]
    lines += [
        f"FLOPs       {found.flops_per_token:.3g} a token{' at the end' * (len(recipe.phases) > 1)}"
        + (f", {found.flops:.3g} in all" if found.flops else ""),
        f"memory      {bytes_text(found.state_bytes)} for weights, gradients and moments; "
        f"about {bytes_text(found.activation_bytes)} for activations",
    ]
    tables = [*lines, "", *_sources(plan), "", *_dials(plan, recipe)]
    said = chosen(recipe)
    return "\n".join([*tables, *([""] if said else []), *said])


def chosen(recipe: Recipe) -> list[str]:
    """Return what libraries do not agree on and this recipe has chosen, line by line.

    Nothing for phases that learn running text or demonstrations alone.
    """
    lines = []
    for phase in recipe.phases:
        learns = [move for move in phase.do if isinstance(move, Learn)]
        if all(isinstance(move.objective, NextToken) for move in learns):
            continue
        found = [*_asked(phase.source), *choices(phase)]
        lines += [f"choices of {phase.name}", *(f"  {line}" for line in found)]
    return lines


def _asked(source: object) -> list[str]:
    """Return how a source of rollouts asks, writes and judges."""
    if not isinstance(source, Rollouts):
        return []
    how, name = source.sampling, source.name
    written = f"{source.template!r}"
    if source.template is None and load_tokenizer(source.tokenizer).chat_template is not None:
        written = "the tokenizer's own, for chats"
    elif source.template is None:
        written = f"{PLAIN_TEMPLATE!r}; the tokenizer has none for chats"
    return [
        f"{name}: group={source.group}, temperature={how.temperature}, at most {how.new_tokens} "
        f"tokens; an answer that ran out of them: {source.truncated}",
        f"{name}: template {written}",
        f"{name}: groups kept: {source.keep or 'all'}; replay: {source.replay or 'none'}",
    ]


def advice_text(found: Prediction, advice: Advice, steps: int) -> str:
    """Return what past runs lead to expect, and what a law would do instead.

    Args:
        found: The prediction.
        advice: Beside it.
        steps: Length of the run.
    """
    kind = "held-out" if found.metric.startswith("heldout") else "training"
    end, best = found.final, advice.best
    start = f"{advice.start:,} of {steps:,} ({100 * best.cooldown:.0f} %)"
    names = [f"{factor:g} x" for factor in BUDGETS]
    return "\n".join(
        [
            f"prediction  {kind} loss {end.loss:.4f} at the end; "
            f"{100 * found.level:.0f} % interval {end.low:.4f} to {end.high:.4f}",
            f"            from {', '.join(found.runs)}: {found.law}",
            "",
            f"{'final loss at a budget of':28}" + "".join(f"{name:>10}" for name in names),
            *(
                f"{name:28}" + "".join(f"{loss:>10.4f}" for loss in losses)
                for name, losses in advice.table.items()
            ),
            "",
            f"decay       best from step {start}, shape (1 - x)^{best.power:.2f}: {best.loss:.4f}, "
            f"{best.loss - end.loss:+.4f}",
            f"tokens      {advice.doubling:.4f} nats for twice as many, "
            f"{advice.tenth:.4f} for 10 % more",
            *(f"warning: {text}" for text in found.warnings),
        ]
    )


def pilots_text(pilots: Sequence[Pilot], plan: Plan, found: Cost) -> str:
    """Return the runs that would let a law predict this one, and what they cost."""
    steps = plan.steps or 1
    lines = [
        f"{'pilots':12}{'':34} {'steps':>8} {'new':>8} {'tokens':>9} {'FLOPs':>9} {'share':>7}"
    ]
    for pilot in (*pilots, None):
        new = sum(p.new_steps for p in pilots) if pilot is None else pilot.new_steps
        tokens = plan.tokens * new / steps
        name = "all" if pilot is None else f"{pilot.number}  {pilot.what}"
        length = "" if pilot is None else f"{pilot.steps:,}"
        lines.append(
            f"{'':12}{name:34} {length:>8} {new:>8,} {count_text(tokens):>9} "
            f"{found.flops_per_token * tokens:>9.2g} {100 * new / steps:>5.1f} %"
        )
    return "\n".join([*lines, "            add --pilot to run them and to predict this run"])


def _sources(plan: Plan) -> list[str]:
    if not plan.sources:
        return ["sources     " + ("endless" if plan.steps is None else "not known before the run")]
    lines = [f"{'source':24} {'tokens':>10} {'size':>10} {'epochs':>8}"]
    for name, share in plan.sources.items():
        epochs = f"{share.epochs:.3f}" if share.epochs is not None else "?"
        size = count_text(share.size) if share.size else "?"
        lines.append(f"{name:24} {count_text(share.tokens):>10} {size:>10} {epochs:>8}")
    return lines


def _dials(plan: Plan, recipe: Recipe) -> list[str]:
    """Return every dial at a few moments of each phase: shares of it, steps if it has no end."""
    lines = []
    endless = {phase.name for phase in recipe.phases if phase.steps is None}
    for phase, table in plan.dials.items():
        if not table:
            continue
        heads = [f"{100 * s:>8.0f}%" for s in AT]
        if phase in endless:
            known = next(iter(table.values()))["step"]
            heads = [f"{known[round(s * (len(known) - 1))]:>9,}" for s in AT]
        lines.append(f"{'dials of ' + phase:36} " + " ".join(heads))
        for path, column in table.items():
            last = len(column["value"]) - 1
            values = [column["value"][round(share * last)] for share in AT]
            lines.append(f"{path:36} " + " ".join(f"{number_text(v, 3):>9}" for v in values))
    return lines
