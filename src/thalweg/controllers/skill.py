"""Skill-it: sources by what they help, times what is still to be learned.

The graph says how much training on a source lowers each loss. It comes from pilot runs, of which
`Pilots` makes one a source at the start of the run, by Trials that are rolled back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.controllers.reading import is_due, losses_in
from thalweg.core.protocols import Action, Context, Set, State, Trial
from thalweg.core.time import Span, share
from thalweg.errors import RecipeError

__all__ = ["Pilots", "SkillIt", "influence", "skill_weights", "skills_graph"]

# S sources that are trained on, K losses that are measured.

Graph = Mapping[str, Mapping[str, float]]


def skill_weights(
    graph_SK: np.ndarray, loss_K: np.ndarray, eta: float, prior_S: np.ndarray | None = None
) -> np.ndarray:
    """Return weights ~ prior * exp(eta * sum_j A_ij L_j), [S].

    Args:
        graph_SK: Row i, column j: how much training on i lowers loss j. Negative counts as 0.
        loss_K: The sum of the last losses of each j; ones before there are any.
        eta: How much better a source must be to get e times the weight.
        prior_S: Weights without any evidence; None: equal.

    Source: arXiv:2307.14430, algorithm 1, as in the authors' trainer: from the prior each time,
    not from the weights before.

    Example:
        >>> skill_weights(np.array([[1.0, 0.0], [0.0, 0.0]]), np.ones(2), np.log(3.0)).tolist()
        [0.75, 0.25]
    """
    power_S = eta * (np.maximum(graph_SK, 0.0) @ loss_K)
    weight_S = np.exp(power_S - power_S.max())
    if prior_S is not None:
        weight_S = weight_S * prior_S
    normal_S: np.ndarray = weight_S / weight_S.sum()
    return normal_S


def influence(before_K: np.ndarray, after_K: np.ndarray) -> np.ndarray:
    """Return a row of the graph from a pilot run on one source: max(0, L(0) - L(H)) / L(0).

    Example:
        >>> influence(np.array([2.0, 2.0]), np.array([1.0, 3.0])).tolist()
        [0.5, 0.0]
    """
    fall_K = (np.asarray(before_K) - np.asarray(after_K)) / np.asarray(before_K)
    help_K: np.ndarray = np.maximum(fall_K, 0.0)
    return help_K


def skills_graph(
    matrix_SK: np.ndarray, sources: Sequence[str], losses: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Return a matrix with names, as `SkillIt` takes it.

    Args:
        matrix_SK: Rows: trained on; columns: measured.
        sources: Names of the rows.
        losses: Names of the columns; the sources' if not given.

    Raises:
        RecipeError: The names do not fit the matrix, or it is not finite.

    Example:
        >>> skills_graph(np.array([[1.0, 0.5], [0.0, 1.0]]), ["add", "multiply"])["add"]
        {'add': 1.0, 'multiply': 0.5}
    """
    columns = sources if losses is None else losses
    matrix_SK = np.asarray(matrix_SK, np.float64)
    if matrix_SK.shape != (len(sources), len(columns)) or not np.isfinite(matrix_SK).all():
        raise RecipeError(
            f"a graph of shape {matrix_SK.shape} for {len(sources)} sources and "
            f"{len(columns)} losses",
            expected="one row a source, one column a loss, finite numbers",
            where="skills_graph",
            write="skills_graph(matrix, sources, losses); transpose it if rows are losses",
        )
    return {
        source: dict(zip(columns, row, strict=True))
        for source, row in zip(sources, matrix_SK.tolist(), strict=True)
    }


@dataclass(frozen=True)
class Pilots:
    """Learn the graph of `SkillIt` at the start of the run, by a Trial on each source alone.

    Trials are rolled back; their tokens are counted as the run's trial tokens.
    """

    sources: tuple[str, ...]
    """The sources of the mixture; their losses are what is measured."""
    steps: int = 100
    """Of each trial; held-out losses must fall due within it."""


@dataclass(frozen=True)
class SkillIt:
    """Sample sources in proportion to exp(eta * influence x loss).

    Before losses are known the weights are exp(eta * sum_j A_ij). Each round sets them anew from
    the sums of the last `window` recorded losses; a record is a step on which all losses of the
    graph were measured.

    Source: arXiv:2307.14430, algorithm 1; eta and window from the authors' code.
    """

    graph: Graph | Pilots
    """Source -> loss -> influence, see `skills_graph`; or how to learn it."""
    every: Span | int = share(0.1)
    """Length of a round."""
    eta: float = 0.5
    window: int = 3
    """Records that are summed."""
    normalised: bool = False
    """Divide each loss by its first record, so that losses of other scales do not dominate."""
    losses: str = "heldout/loss/"
    """What stands before the names of the graph's columns in a report."""
    weights: str = "source.weights"
    """Path of the weights in the phase."""

    @property
    def name(self) -> str:
        """Return `skill_it`, its place in paths."""
        return "skill_it"

    def start(self, ctx: Context) -> State:
        """Return the state before the first step.

        Raises:
            RecipeError: A graph without rows, or whose rows measure different losses.
        """
        return {"graph": None if isinstance(self.graph, Pilots) else _matrix(self.graph),
                "records": [], "first": None, "set": False}  # fmt: skip

    def act(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Return the weights of the next round where one begins; pilots first."""
        if ctx.trial:
            return self._piloted(state, ctx)
        state = self._recorded(state, ctx)
        if state["graph"] is None:
            return ((), state) if not state["records"] else self._pilot(state, [])
        if not state["set"]:
            return self._set(state, np.ones(len(self._columns)), ctx)
        if not is_due(self.every, ctx.time) or not state["records"]:
            return (), state
        records = np.array(state["records"])
        if self.normalised:
            records = records / np.array(state["first"])
        return self._set(state, records.sum(0), ctx)

    @property
    def _sources(self) -> tuple[str, ...]:
        return self.graph.sources if isinstance(self.graph, Pilots) else tuple(self.graph)

    @property
    def _columns(self) -> tuple[str, ...]:
        if isinstance(self.graph, Pilots):
            return self.graph.sources
        return tuple(next(iter(self.graph.values())))

    def _recorded(self, state: State, ctx: Context) -> State:
        found = losses_in(ctx.last["report"], self.losses, self._columns)
        if len(found) < len(self._columns):
            return state
        row = [found[name] for name in self._columns]
        records = [*state["records"], row][-self.window :]
        return {**state, "records": records, "first": state["first"] or row}

    def _set(self, state: State, loss_K: np.ndarray, ctx: Context) -> tuple[list[Action], State]:
        weight_S = skill_weights(np.array(state["graph"]), loss_K, self.eta)
        if not state["set"] and weight_S.max() < 1.01 * weight_S.min():
            ctx.note("warning", "the skills graph tells no source from another: uniform weights")
        values = dict(zip(self._sources, weight_S.tolist(), strict=True))
        return [Set({self.weights: values})], {**state, "set": True}

    def _pilot(self, state: State, rows: list[list[float]]) -> tuple[list[Action], State]:
        assert isinstance(self.graph, Pilots)  # no graph yet
        alone = {name: float(i == len(rows)) for i, name in enumerate(self._sources)}
        trial = Trial({self.weights: alone}, self.graph.steps)
        return [trial], {**state, "pilots": rows}

    def _piloted(self, state: State, ctx: Context) -> tuple[Sequence[Action], State]:
        """Add a row of the graph from the trial that has just ended."""
        before_K = np.array(state["records"][-1])
        rows = [*state["pilots"], influence(before_K, self._after(ctx)).tolist()]
        if len(rows) < len(self._sources):
            return self._pilot(state, rows)
        state = {**{k: v for k, v in state.items() if k != "pilots"}, "graph": rows}
        return self._set(state, np.ones(len(self._columns)), ctx)

    def _after(self, ctx: Context) -> np.ndarray:
        """Return the last losses of a trial; infinite if it diverged."""
        for report in reversed(ctx.trial):
            found = losses_in(report, self.losses, self._columns)
            if len(found) == len(self._columns):
                return np.array([found[name] for name in self._columns])
        if ctx.trial[-1].get("loss") == np.inf:
            return np.full(len(self._columns), np.inf)
        raise RecipeError(
            f"a pilot of {len(ctx.trial)} steps in which no losses '{self.losses}NAME' were "
            f"measured for {list(self._columns)}",
            expected="a HeldOut monitor on these names that falls due within a pilot",
            where="SkillIt.graph",
            write=f"HeldOut({{...}}, every={max(1, len(ctx.trial) // 2)}), or longer pilots",
        )


def _matrix(graph: Graph) -> list[list[float]]:
    rows = {source: tuple(row) for source, row in graph.items()}
    columns = next(iter(rows.values()), ())
    odd = [source for source, row in rows.items() if row != columns]
    if odd or not columns:
        raise RecipeError(
            f"a graph whose row '{odd[0]}' measures {list(rows[odd[0]])}" if odd else "no graph",
            expected=f"the same losses in every row: {list(columns)}",
            where="SkillIt.graph",
            write="skills_graph(matrix, sources, losses)",
        )
    return [[float(row[name]) for name in columns] for row in graph.values()]
