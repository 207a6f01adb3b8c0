"""Where tokens go in a mixture of experts: how evenly, how differently by text, by which ways.

Load: of the tokens that count, which share goes to an expert, times E: 1 is even. How many experts
are in use is the exponential of the entropy of these shares, within each row and over all rows: a
balance loss at the scope of a row holds the first at E, one over the global batch only the second.
Specialisation is what an expert's number says about the source of a token, in nats: 0 to the
logarithm of the number of sources, every source counted alike.

Pathways: in each layer, the experts of a text by falling mean weight until 0.7 is reached; written
as the paper does, "3,1,5-...-9,1", their distance is Levenshtein's. For each text

    e_l = sum_k mean weight_lk * router row_lk,   C = 1 - mean_l cos(e_l, e_l+1) / max_l cos

`inconsistency` is C: higher is more erratic. `consistency` is 1 - C. The paper's formula makes
lower C smoother, and its figure 6 shows C falling as accuracy rises, but its table 1 reports a
positive correlation with accuracy: both cannot hold for one quantity, hence the two names. Only
values at the same numbers of layers and experts compare.

Source: arXiv:2506.21551, sec. 4; arXiv:2501.11873 for the scopes of balance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.learner import Learner
from thalweg.core.protocols import Context, Dial, Source
from thalweg.core.rng import rng
from thalweg.core.time import Span, share
from thalweg.data.rows import first_rows
from thalweg.errors import DialError, RecipeError
from thalweg.objectives.balance import ExpertCounts
from thalweg.optim.values import whole

__all__ = [
    "ExpertUse",
    "Pathways",
    "experts_in_use",
    "inconsistency",
    "path",
    "path_distances",
    "path_text",
    "specialisation",
]

# R rows, L layers, E experts, S sources, D width, N pairs, P letters of the longest path.

Floats = NDArray[np.float64]


def experts_in_use(counts: Floats) -> Floats:
    """Return exp(entropy of the shares) over the last axis: 1 to E; E where nothing is counted.

    Example:
        >>> experts_in_use(np.array([[5.0, 5.0, 0.0], [7.0, 0.0, 0.0]])).round(6).tolist()
        [2.0, 1.0]
    """
    share_E = _shares(counts)
    logs = np.log(np.where(share_E > 0, share_E, 1.0))
    used: Floats = np.exp(-(share_E * logs).sum(-1))
    return used


def specialisation(counts_SE: Floats) -> float:
    """Return the mutual information of source and expert, nats, every source counted alike.

    Args:
        counts_SE: Tokens of each source that went to each expert.

    Example:
        >>> round(specialisation(np.array([[9.0, 0.0], [0.0, 3.0]])), 4)
        0.6931
    """
    joint = _shares(counts_SE) / len(counts_SE)
    even = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    ratio = np.where(joint > 0, joint / np.where(even > 0, even, 1.0), 1.0)
    return float((joint * np.log(ratio)).sum())


def path(weight_E: Floats, threshold: float = 0.7) -> list[int]:
    """Return the experts by falling weight until their sum exceeds the threshold.

    Example:
        >>> path(np.array([0.1, 0.5, 0.15, 0.25]))
        [1, 3]
    """
    order = np.argsort(-weight_E, kind="stable")
    reached = np.cumsum(weight_E[order]) > threshold * weight_E.sum()
    return [int(expert) for expert in order[: int(np.argmax(reached)) + 1]]


def path_text(weight_LE: Floats, threshold: float = 0.7) -> str:
    """Return the path through all layers, as the paper writes it.

    Example:
        >>> path_text(np.array([[0.1, 0.5, 0.15, 0.25], [0.9, 0.1, 0.0, 0.0]]))
        '1,3-0'
    """
    return _written([path(layer, threshold) for layer in weight_LE])


def path_distances(pairs: Sequence[tuple[Sequence[object], Sequence[object]]]) -> Floats:
    """Return Levenshtein's distance of each pair, of texts or of any sequences, [N].

    All pairs go together, a letter at a time; what is inserted is a running minimum.

    Example:
        >>> path_distances([("kitten", "sitting"), ("1,3-0", "1-0")]).tolist()
        [3.0, 2.0]
    """
    letters = {one: n for n, one in enumerate({x for pair in pairs for text in pair for x in text})}
    first, second = ([[letters[one] for one in pair[side]] for pair in pairs] for side in (0, 1))
    left_NP, left_N = _padded(first, -1)
    right_NP, right_N = _padded(second, -2)
    column = np.arange(right_NP.shape[1] + 1, dtype=np.float64)
    best = np.repeat(column[None], len(pairs), 0)
    found = best[np.arange(len(pairs)), right_N].copy()
    for place in range(left_NP.shape[1]):
        swapped = best[:, :-1] + (left_NP[:, place : place + 1] != right_NP)
        step = np.concatenate([best[:, :1] + 1, np.minimum(swapped, best[:, 1:] + 1)], 1)
        best = np.minimum.accumulate(step - column, axis=1) + column
        done = left_N == place + 1
        found[done] = best[done, right_N[done]]
    return found


def inconsistency(embedding_LD: Floats) -> float:
    """Return C of one text; NaN with one layer, or where no two layers point the same way.

    Args:
        embedding_LD: Mean of a layer's router rows by their weights in the text.

    Example:
        >>> turns = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> round(inconsistency(turns), 6)
        0.5
    """
    if len(embedding_LD) < 2:
        return float("nan")
    norm_L = np.maximum(np.linalg.norm(embedding_LD, axis=1), 1e-30)
    unit_LD = embedding_LD / norm_L[:, None]
    cosine = (unit_LD[:-1] * unit_LD[1:]).sum(1)
    return float(1 - cosine.mean() / (cosine.max() + 1e-8)) if cosine.max() > 0 else float("nan")


@dataclass(frozen=True)
class ExpertUse:
    """Load, experts in use and specialisation, means over layers: `experts/...`.

    `experts/load`: the largest load (1 is even), all rows together, `experts/load/SOURCE` of one
    source; `experts/used` over all rows, `experts/used/row` within a row; `experts/idle`: experts
    without a token, summed over layers; `experts/specialisation` where there are several sources.

    A forward pass without head over `rows` rows each time: at the default, of 64 rows beside
    batches of 32, 1.2 % of a run of 1,200 steps.
    """

    sources: Mapping[str, Source]
    """Text by name; give all of them `shuffle=False`."""
    rows: int = 64
    """Rows in all, shared evenly by the sources; one each at least."""
    every: Dial | Span = share(0.05)
    """Distance between measurements."""
    model: str = "policy"

    def __post_init__(self) -> None:
        """Refuse nothing to measure.

        Raises:
            DialError: No text or no rows.
        """
        if min(len(self.sources), self.rows) < 1:
            raise _too_little(f"{len(self.sources)} sources, rows={self.rows}", "ExpertUse")

    @property
    def name(self) -> str:
        """Return `experts`, its place in paths."""
        return "experts"

    def before(self, ctx: Context) -> Mapping[str, float]:
        """Refuse a model without experts before the first step; measure nothing.

        Raises:
            RecipeError: There is no router in it.
        """
        _routers(ctx.models[self.model], "ExpertUse")
        return {}

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return what the routers do now."""
        each = -(-self.rows // len(self.sources))
        learner = ctx.models[self.model]
        counts = {
            name: learner.score(ExpertCounts(), first_rows(source, each, ctx)).numpy()
            for name, source in self.sources.items()
        }
        all_RLE = np.concatenate([*counts.values()]).astype(np.float64)
        total_LE = all_RLE.sum(0)
        values = {
            "experts/load": _load(total_LE),
            "experts/used": float(experts_in_use(total_LE).mean()),
            "experts/used/row": float(experts_in_use(all_RLE).mean()),
            "experts/idle": float((total_LE == 0).sum()),
        }
        if len(counts) > 1:
            by_SLE = np.stack([rows.sum(0).astype(np.float64) for rows in counts.values()])
            values |= {f"experts/load/{n}": _load(x) for n, x in zip(counts, by_SLE, strict=True)}
            told = [specialisation(by_SLE[:, layer]) for layer in range(by_SLE.shape[1])]
            values["experts/specialisation"] = float(np.mean(told))
        return values


@dataclass(frozen=True)
class Pathways:
    """Distance of the ways that texts take, and how erratic each is: `pathway/...`.

    `pathway/distance`, mean over pairs of texts, in letters of the paper's notation;
    `pathway/steps`, the same with every expert and every border of layers one letter, whatever its
    digits; `pathway/inconsistency` C and `pathway/consistency` 1 - C, means over the texts that
    have one. Weights are those before the choice of experts.

    The paper takes training texts whose loss has settled at a low value. A distance costs the
    product of two paths' lengths.
    """

    texts: Source
    """A row each; give it `shuffle=False`."""
    rows: int = 64
    """First rows."""
    threshold: float = 0.7
    """Of a layer's weight that the experts on a path make up."""
    pairs: int = 512
    """Most pairs that are compared, drawn once."""
    every: Dial | Span = share(0.05)
    """Distance between measurements."""
    model: str = "policy"

    def __post_init__(self) -> None:
        """Refuse less than a pair.

        Raises:
            DialError: One row, no pairs, a threshold that is no share.
        """
        if self.rows < 2 or self.pairs < 1 or not 0 < self.threshold < 1:
            given = f"rows={self.rows}, pairs={self.pairs}, threshold={self.threshold}"
            raise _too_little(given, "Pathways")

    @property
    def name(self) -> str:
        """Return `pathway`, its place in paths."""
        return "pathway"

    def before(self, ctx: Context) -> Mapping[str, float]:
        """Refuse a model without experts before the first step; measure nothing.

        Raises:
            RecipeError: There is no router in it.
        """
        _routers(ctx.models[self.model], "Pathways")
        return {}

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return distance and consistency now."""
        learner = ctx.models[self.model]
        weight_RLE = learner.score(mean_weights, first_rows(self.texts, self.rows, ctx)).double()
        ways = [[path(layer, self.threshold) for layer in row] for row in weight_RLE.numpy()]
        written = [_written(way) for way in ways]
        steps = [[x for layer in way for x in (*layer, "-")] for way in ways]
        compared = _drawn(len(ways), self.pairs)
        values = {
            "pathway/distance": path_distances([(written[a], written[b]) for a, b in compared]),
            "pathway/steps": path_distances([(steps[a], steps[b]) for a, b in compared]),
        }
        routers = [whole(p.detach()).cpu() for p in _routers(learner, "Pathways")]
        rows_LED = torch.stack(routers).double()
        embedding_RLD = torch.einsum("rle,led->rld", weight_RLE, rows_LED).numpy()
        erratic_R = np.array([inconsistency(one) for one in embedding_RLD])
        if np.isfinite(erratic_R).any():
            values["pathway/inconsistency"] = erratic_R[np.isfinite(erratic_R)]
            values["pathway/consistency"] = 1 - values["pathway/inconsistency"]
        return {name: float(each.mean()) for name, each in values.items()}


def mean_weights(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the mean weight of each expert over the tokens that count in a row [R, L, E]."""
    document = batch["document"][:, :-1] if "document" in batch else None
    routing = model(batch["tokens"][:, :-1], document, routing=True)
    counted_RT = (batch["weight"] > 0).float()
    share_RT = counted_RT / counted_RT.sum(1, keepdim=True).clamp_min(1.0)
    return torch.stack([torch.einsum("rte,rt->re", x.probs, share_RT) for x in routing], 1)


def _routers(learner: Learner, where: str) -> list[nn.Parameter]:
    """Return the weights of the router of each layer."""
    named = learner.module.named_parameters()
    found = [parameter for name, parameter in named if name.endswith("mixture.router")]
    if not found:
        raise RecipeError(
            f"'{learner.name}', a model without experts",
            expected="a mixture of experts",
            where=f"monitors.{where}",
            write="Transformer(moe=Moe(experts=8, top=2), ...), or no such monitor",
        )
    return found


def _written(way: Sequence[Sequence[int]]) -> str:
    """Return the experts on a way, layer by layer, as the paper writes it."""
    return "-".join(",".join(map(str, layer)) for layer in way)


def _drawn(rows: int, most: int) -> list[tuple[int, int]]:
    """Return pairs of rows, always the same: all, or as many as asked for."""
    pairs = [*combinations(range(rows), 2)]
    if len(pairs) <= most:
        return pairs
    chosen = rng(0, "pathways").choice(len(pairs), most, replace=False)
    return [pairs[number] for number in np.sort(chosen)]


def _padded(rows: Sequence[Sequence[int]], fill: int) -> tuple[NDArray[np.int64], ...]:
    length_N = np.array([len(row) for row in rows], np.int64)
    out = np.full((len(rows), int(length_N.max())), fill, np.int64)
    for row, letters in zip(out, rows, strict=True):
        row[: len(letters)] = letters
    return out, length_N


def _load(counts_LE: Floats) -> float:
    return float((_shares(counts_LE) * counts_LE.shape[-1]).max(-1).mean())


def _shares(counts: Floats) -> Floats:
    total = counts.sum(-1, keepdims=True)
    even = 1.0 / counts.shape[-1]
    return np.where(total > 0, counts / np.where(total > 0, total, 1.0), even)


def _too_little(given: str, where: str) -> DialError:
    return DialError(
        given,
        expected="text, two rows for pairs, a threshold between 0 and 1",
        where=f"monitors.{where}",
        write='ExpertUse({"web": ...}, rows=64), Pathways(text, rows=64)',
    )
