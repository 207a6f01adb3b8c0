"""Log-probs of targets and the entropy of every distribution, chunk by chunk, both differentiable.

H = - sum_v p_v log p_v.  With z the logits, dH / dz_v = - p_v (log p_v + H).

What `crossentropy.py` says of chunks, types and the compiler holds here too. The backward pass
makes each chunk's logits again; where entropies are only looked at, it is that of the log-probs.
"""

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from thalweg.models.crossentropy import (
    chunks,
    compiled,
    gradients,
    gradients_whole,
    log_shares,
    matmul_dtype,
    put,
    tokens_a_chunk,
    weighed,
    wide,
)

__all__ = ["LogprobsAndEntropy", "linear_entropy"]

# N tokens (rows times positions), D width, V vocabulary, C tokens of a chunk.


class LogprobsAndEntropy(NamedTuple):
    """What `linear_entropy` returns."""

    logprobs_N: torch.Tensor
    entropy_N: torch.Tensor


def linear_entropy(
    hidden_ND: torch.Tensor,
    head_VD: torch.Tensor,
    targets_N: torch.Tensor,
    *,
    chunk: int | None = None,
) -> LogprobsAndEntropy:
    """Return the log-prob of each target and the entropy of its distribution, nats.

    Args:
        hidden_ND: Final hidden states [N, D].
        head_VD: Output matrix [V, D].
        targets_N: int64 [N], each in 0 .. V-1.
        chunk: Tokens whose logits exist at a time; None picks by device and vocabulary.

    Returns:
        Both [N], float32 (float64 for float64 inputs).

    Example:
        >>> found = linear_entropy(torch.zeros(1, 2), torch.ones(4, 2), torch.tensor([3]))
        >>> round(float(found.entropy_N[0]), 4)
        1.3863
    """
    size = chunk or 2 * tokens_a_chunk(hidden_ND, head_VD)  # measured: 10 % faster, and no peak
    low = matmul_dtype(hidden_ND)
    return LogprobsAndEntropy(*_Both.apply(hidden_ND, head_VD, targets_N, size, low))  # type: ignore[no-untyped-call]


def _seen(logits_CV: torch.Tensor, targets_C1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probs [C, 1] of the targets and the entropies [C]."""
    log_share_CV = log_shares(logits_CV)
    return log_share_CV.gather(1, targets_C1), -(log_share_CV.exp() * log_share_CV).sum(1)


def _slopes(
    logits_CV: torch.Tensor, targets_C1: torch.Tensor, a_C1: torch.Tensor, b_C1: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return -p (a + b (log p + H)) [C, V], and what stands at the target instead [C, 1]."""
    log_share_CV = log_shares(logits_CV)
    share_CV = log_share_CV.exp()
    entropy_C1 = -(share_CV * log_share_CV).sum(1, keepdim=True)
    slope_CV = -share_CV * (a_C1 + b_C1 * (log_share_CV + entropy_C1))
    at_target_C1 = a_C1 + slope_CV.gather(1, targets_C1)
    return slope_CV.to(logits_CV.dtype), at_target_C1.to(logits_CV.dtype)


def _score(
    hidden_ND: torch.Tensor,
    head_VD: torch.Tensor,
    targets_N: torch.Tensor,
    size: int,
    compiling: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probs [N] and entropies [N]."""
    seen = compiled(_seen, compiling)
    logprobs_N = hidden_ND.new_empty(targets_N.shape, dtype=wide(hidden_ND.dtype))
    entropy_N = torch.empty_like(logprobs_N)
    for part in chunks(len(targets_N), size):
        found_C1, entropy_N[part] = seen(hidden_ND[part] @ head_VD.t(), targets_N[part, None])
        logprobs_N[part] = found_C1[:, 0]
    return logprobs_N, entropy_N


def _gradients(
    hidden_ND: torch.Tensor,
    head_VD: torch.Tensor,
    targets_N: torch.Tensor,
    to_logprobs_N: torch.Tensor,
    to_entropy_N: torch.Tensor,
    size: int,
    with_head: bool,
    compiling: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of sum(a * logprob + b * H) for hidden [N, D] and head [V, D] or [0, D].

    The slope in the logits is a (onehot - p) - b p (log p + H). The compiler asks for it with b = 0
    where entropies are only looked at: that is the one of the log-probs.
    """
    if not to_entropy_N.any():
        given = hidden_ND, head_VD, targets_N, -to_logprobs_N, size, with_head, False, compiling
        return gradients(*given)[1:]
    slopes = compiled(_slopes, compiling)
    to_hidden_ND = torch.zeros_like(hidden_ND)
    rows = head_VD if with_head else head_VD[:0]
    to_head = torch.zeros_like(rows, dtype=wide(hidden_ND.dtype))
    for part in weighed(size, to_logprobs_N, to_entropy_N):
        targets_C1 = targets_N[part, None]
        slope_CV, at_target_C1 = slopes(
            hidden_ND[part] @ head_VD.t(),
            targets_C1,
            to_logprobs_N[part, None],
            to_entropy_N[part, None],
        )
        slope_CV = put(slope_CV, targets_C1, at_target_C1)
        to_hidden_ND[part] = slope_CV @ head_VD
        if with_head:
            to_head += slope_CV.t() @ hidden_ND[part]
    return to_hidden_ND, to_head


# Operators are known to torch by name, so they are registered when this file is imported.
_score_whole = torch.library.custom_op("thalweg::linear_entropy", _score, mutates_args=())
_gradients_whole = torch.library.custom_op(
    "thalweg::linear_entropy_gradients", _gradients, mutates_args=()
)


@_score_whole.register_fake
def _(
    hidden_ND: torch.Tensor,
    head_VD: torch.Tensor,
    targets_N: torch.Tensor,
    size: int,
    compiling: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    logprobs_N = hidden_ND.new_empty(targets_N.shape, dtype=wide(hidden_ND.dtype))
    return logprobs_N, torch.empty_like(logprobs_N)


@_gradients_whole.register_fake
def _(
    hidden_ND: torch.Tensor,
    head_VD: torch.Tensor,
    targets_N: torch.Tensor,
    to_logprobs_N: torch.Tensor,
    to_entropy_N: torch.Tensor,
    size: int,
    with_head: bool,
    compiling: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = head_VD.shape[0] if with_head else 0
    to_head = head_VD.new_empty((rows, head_VD.shape[1]), dtype=wide(hidden_ND.dtype))
    return torch.empty_like(hidden_ND), to_head


class _Both(torch.autograd.Function):
    """Log-probs and entropies; the backward pass makes each chunk's logits again."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        head_VD: torch.Tensor,
        targets_N: torch.Tensor,
        size: int,
        low: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(hidden_ND, head_VD, targets_N)
        ctx.how = size, low
        ctx.set_materialize_grads(False)
        found: tuple[torch.Tensor, torch.Tensor] = _score_whole(
            hidden_ND.to(low), head_VD.to(low), targets_N, size, torch.compiler.is_compiling()
        )
        return found

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, to_logprobs_N: torch.Tensor | None, to_entropy_N: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        hidden_ND, head_VD, targets_N = ctx.saved_tensors
        size, low = ctx.how
        with_head = ctx.needs_input_grad[1]
        given = hidden_ND.to(low), head_VD.to(low), targets_N
        compiling = torch.compiler.is_compiling()
        if to_entropy_N is None and to_logprobs_N is not None:
            _, to_hidden_ND, to_head = gradients_whole(
                *given, -to_logprobs_N, size, with_head, False, compiling
            )
        else:
            none_N = torch.zeros(targets_N.shape, dtype=wide(low), device=targets_N.device)
            a_N = none_N if to_logprobs_N is None else to_logprobs_N
            b_N = none_N if to_entropy_N is None else to_entropy_N
            to_hidden_ND, to_head = _gradients_whole(*given, a_N, b_N, size, with_head, compiling)
        to_head_VD = to_head.to(head_VD.dtype) if with_head else None
        return to_hidden_ND.to(hidden_ND.dtype), to_head_VD, None, None, None
