"""Memory for single texts: are they recognised, can they be recalled, and for how long.

    recognition   share of pairs in which a text that was shown has a lower loss than its foil
    recall        share of the tokens behind a cue that greedy decoding gets right
    retention     both, while the run goes on with other text

Pairs are compared one by one, never against a common threshold: some texts are easier than others.
Foils should have the lengths and the origin of the texts they stand beside. Recall is also given as
ROUGE-L, which forgives a shift: what is told rightly but one word late counts.

Source: arXiv:2303.17557 and its code; the choice of ROUGE-L among the ROUGE measures is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from thalweg.core.batch import Batch
from thalweg.core.moves import logprobs
from thalweg.core.protocols import Context, Dial, Source
from thalweg.core.time import Span, share
from thalweg.data.rows import first_rows
from thalweg.errors import DialError
from thalweg.evaluate.recall import continued

__all__ = ["Memory", "recalled", "recognised", "rouge_l", "row_nats"]

# N pairs, R rows, T tokens of a row, V vocabulary.


def recognised(seen_N: ArrayLike, foil_N: ArrayLike) -> float:
    """Return the share of pairs whose shown text has the lower loss; a tie counts half.

    Args:
        seen_N: Loss of each text that was shown.
        foil_N: Loss of its foil.

    Example:
        >>> recognised([1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 4.0, 3.0])
        0.625
    """
    seen, foil = np.asarray(seen_N, np.float64), np.asarray(foil_N, np.float64)
    return float(np.mean((seen < foil) + 0.5 * (seen == foil)))


def recalled(truth_NT: ArrayLike, written_NT: ArrayLike) -> float:
    """Return the share of tokens that are right at their place.

    Example:
        >>> recalled([[1, 2, 3, 4]], [[1, 2, 4, 3]])
        0.5
    """
    return float(np.mean(np.asarray(truth_NT) == np.asarray(written_NT)))


def rouge_l(truth: Sequence[int], written: Sequence[int]) -> float:
    """Return ROUGE-L: twice the longest common subsequence over both lengths, 0 to 1.

    Example:
        >>> rouge_l([1, 2, 3, 4], [9, 1, 2, 3])
        0.75
    """
    best = [0] * (len(written) + 1)
    for one in truth:
        before = 0
        for place, other in enumerate(written, start=1):
            here = best[place]
            best[place] = before + 1 if one == other else max(here, best[place - 1])
            before = here
    return 2 * best[-1] / max(len(truth) + len(written), 1)


def row_nats(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Return the loss of each row, nats over all its targets that count, [R]."""
    counted_RT = (batch["weight"] > 0).float()
    return -(logprobs(model, batch) * counted_RT).sum(1)


@dataclass(frozen=True)
class Memory:
    """Recognition and recall of texts that the run is shown, or once was.

    `memory/recognition` against foils, `memory/recall` and `memory/rouge` behind a cue, which is
    read once; models that are not ours read the row anew for each token behind it.
    """

    study: Source
    """The texts, a row each; give it `shuffle=False`."""
    foils: Source
    """As many others, in the same order: row i is compared with row i."""
    rows: int = 32
    """First rows of both."""
    cue: float = 0.5
    """Share of a row that is given; at least one token is, and one is asked for."""
    every: Dial | Span = share(0.1)
    """Distance between measurements."""
    model: str = "policy"

    def __post_init__(self) -> None:
        """Refuse no rows, and a cue that is no share.

        Raises:
            DialError: One of them.
        """
        if self.rows < 1 or not 0 < self.cue < 1:
            raise DialError(
                f"rows={self.rows}, cue={self.cue}",
                expected="1 row or more, a cue between 0 and 1",
                where="monitors.memory",
                write="Memory(study, foils, rows=32, cue=0.5)",
            )

    @property
    def name(self) -> str:
        """Return `memory`, its place in paths."""
        return "memory"

    def __call__(self, ctx: Context) -> Mapping[str, float]:
        """Return recognition and recall now."""
        learner = ctx.models[self.model]
        study, foils = (first_rows(one, self.rows, ctx) for one in (self.study, self.foils))
        seen_N, foil_N = (learner.score(row_nats, batch).numpy() for batch in (study, foils))
        truth_NT = study["tokens"]
        length = truth_NT.shape[1]
        cue = min(max(1, round(self.cue * length)), length - 1)
        written_NT = continued(learner, truth_NT[:, :cue], length)
        truth, written = truth_NT[:, cue:].tolist(), written_NT[:, cue:].tolist()
        return {
            "memory/recognition": recognised(seen_N, foil_N),
            "memory/recall": recalled(truth, written),
            "memory/rouge": float(np.mean([*map(rouge_l, truth, written)])),
        }
