"""Causal attention, one function; the kernel is chosen by device, dtype and row length.

softmax(q k^T / sqrt(d)) v, where a position sees itself and what stands before it in its document.

CPU: torch's fused attention is slow on short rows and has no use for two cores' bfloat16 matmuls,
so rows up to `_SHORT` positions go through two matmuls and a softmax, in causal blocks (a block of
queries never touches the keys behind it). Longer rows use the fused kernel, which needs no square
of memory.
CUDA: the fused kernel without documents; with them flex_attention, which skips the blocks between
two documents, when the model is compiled (eager flex builds the square), else an explicit mask.
"""

import math
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from thalweg.models.pointwise import LOG2E
from thalweg.models.shared import Shared

__all__ = ["Documents", "attention", "documents_for", "look"]

# R rows, T positions, H query heads, G key heads (H is a multiple of G), d width of a head, e of a
# value, J = H / G, S slots and C columns of a cache.

Documents: TypeAlias = "torch.Tensor | BlockMask | Shared | None"
"""The document column int32 [R, T], what `documents_for` made of it, groups of rows that begin
alike, or None for one a row."""

_SHORT, _WIDE_SHORT = 2048, 1023
"""Longest row for which plain matmuls beat the fused CPU kernel, in two bytes and in four; measured
at heads of 32 and 64."""


def documents_for(document_RT: torch.Tensor | Shared | None, *, head_width: int) -> Documents:
    """Return the document column in the form that `attention` reads fastest; make it once a pass.

    Args:
        document_RT: int32 [R, T], or None; groups stay as they are.
        head_width: Width of a head; flex_attention wants a power of two from 16 on.

    Returns:
        The column itself, or a block mask on a CUDA device inside a compiled model.
    """
    fits = head_width >= 16 and head_width & (head_width - 1) == 0
    if document_RT is None or isinstance(document_RT, Shared):
        return document_RT
    if not (document_RT.is_cuda and torch.compiler.is_compiling() and fits):
        return document_RT
    column_RT = document_RT

    def inside(
        row: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        return (query >= key) & (column_RT[row, query] == column_RT[row, key])

    rows, length = document_RT.shape
    return create_block_mask(inside, rows, None, length, length, device=document_RT.device)


def attention(
    q_RHTd: torch.Tensor,
    k_RGTd: torch.Tensor,
    v_RGTd: torch.Tensor,
    document: Documents = None,
) -> torch.Tensor:
    """Return causal attention, inside documents where they are given.

    Args:
        q_RHTd: Queries [R, H, T, d]; without documents perhaps fewer, those of the last positions.
        k_RGTd: Keys [R, G, T, d]; query head h reads key head h // (H / G).
        v_RGTd: Values [R, G, T, d].
        document: int32 [R, T]; attention stays inside equal ids. None: one document a row.
            `Shared`: rows are packed groups.

    Returns:
        [R, H, T, d] in the dtype of the queries.

    Example:
        >>> one = torch.ones(1, 2, 3, 4)
        >>> attention(one, one[:, :1], one[:, :1]).shape
        torch.Size([1, 2, 3, 4])
    """
    each = q_RHTd.shape[1] // k_RGTd.shape[1]
    if isinstance(document, Shared):
        return _of_groups(q_RHTd, _repeated(k_RGTd, each), _repeated(v_RGTd, each), document)
    if isinstance(document, BlockMask):
        seen = flex_attention(q_RHTd, k_RGTd, v_RGTd, block_mask=document, enable_gqa=each > 1)
        assert isinstance(seen, torch.Tensor)
        return seen
    short = _SHORT if q_RHTd.dtype.itemsize == 2 else _WIDE_SHORT
    if q_RHTd.device.type == "cpu" and q_RHTd.shape[2] <= short:
        return _in_blocks(q_RHTd, k_RGTd, v_RGTd, document)
    whole = document is None and q_RHTd.shape[2] == k_RGTd.shape[2]
    mask = None if whole else _visible(document, q_RHTd.shape[2], k_RGTd.shape[2], q_RHTd.device)
    return functional.scaled_dot_product_attention(
        q_RHTd, k_RGTd, v_RGTd, attn_mask=mask, is_causal=whole, enable_gqa=each > 1
    )


def look(
    q_SH1d: torch.Tensor,
    k_SGCd: torch.Tensor,
    v_SGCe: torch.Tensor,
    hidden: torch.Tensor,
    *,
    scale: float,
) -> torch.Tensor:
    """Return the attention [S, H, 1, e] of one query a head on what a cache holds.

    Args:
        q_SH1d: Queries.
        k_SGCd: Keys; query head h reads key head h // (H / G).
        v_SGCe: Values, of any width.
        hidden: Where not to look, bool [S, 1, 1, C].
        scale: What scores are multiplied by.
    """
    slots, heads, _, width = q_SH1d.shape
    groups = k_SGCd.shape[1]
    q_SGJd = q_SH1d.reshape(slots, groups, heads // groups, width) * scale
    scores_SGJC = (q_SGJd @ k_SGCd.transpose(-1, -2)).masked_fill(hidden, -torch.inf)
    seen: torch.Tensor = scores_SGJC.softmax(-1) @ v_SGCe
    return seen.view(slots, heads, 1, -1)


def _of_groups(
    q_RHWd: torch.Tensor, k_RHWd: torch.Tensor, v_RHWd: torch.Tensor, shared: Shared
) -> torch.Tensor:
    """Attention of packed groups: a prefix looks at itself, the rest of a row at both."""
    first = attention(*(x[:, :, : shared.prefix] for x in (q_RHWd, k_RHWd, v_RHWd)))
    q = shared.parted(q_RHWd, 2)[1].flatten(1, 2)
    k, v = (torch.cat(shared.parted(x, 2), 3).flatten(1, 2) for x in (k_RHWd, v_RHWd))
    rest = torch.unflatten(attention(q, k, v), 1, (-1, shared.rows)).flatten(2, 3)
    return torch.cat([first, rest], 2)


def _repeated(heads_RGTd: torch.Tensor, each: int) -> torch.Tensor:
    """Return [R, H, T, d]: keys or values for every query head."""
    return heads_RGTd if each == 1 else heads_RGTd.repeat_interleave(each, 1)


def _visible(
    document_RT: torch.Tensor | None, queries: int, length: int, device: torch.device
) -> torch.Tensor:
    """Return where the last queries may look: bool [t, T], or [R, 1, T, T] with documents."""
    place_T = torch.arange(length, device=device, dtype=torch.int32)
    causal_TT = place_T[length - queries :, None] >= place_T[None, :]
    if document_RT is None:
        return causal_TT
    return causal_TT & (document_RT[:, None, :, None] == document_RT[:, None, None, :])


def _in_blocks(
    q_RHTd: torch.Tensor,
    k_RGTd: torch.Tensor,
    v_RGTd: torch.Tensor,
    document_RT: torch.Tensor | None,
) -> torch.Tensor:
    """Attention as matmul, softmax, matmul; a block of queries skips the keys behind it."""
    heads, queries, width = q_RHTd.shape[1:]
    each, length = heads // k_RGTd.shape[1], k_RGTd.shape[2]
    k_RHTd, v_RHTd = _repeated(k_RGTd, each), _repeated(v_RGTd, each)
    visible = _visible(document_RT, queries, length, q_RHTd.device)
    bias = torch.where(visible, 0.0, -math.inf).to(q_RHTd.dtype)
    scaled = q_RHTd * width**-0.5
    if q_RHTd.dtype.itemsize == 2:
        seen: torch.Tensor = _Blocks.apply(scaled, k_RHTd, v_RHTd, bias)  # type: ignore[no-untyped-call]
        return seen
    parts = []
    for block, keys in _blocks(queries, length):
        scores = scaled[:, :, block] @ k_RHTd[:, :, keys].transpose(-1, -2)
        parts.append((scores + bias[..., block, keys]).softmax(-1) @ v_RHTd[:, :, keys])
    return torch.cat(parts, 2)


def _blocks(queries: int, length: int) -> list[tuple[slice, slice]]:
    """Return blocks of queries, four, of 128 at least, and the keys that each may see."""
    step, before = max(-(-queries // 4), 128), length - queries
    bounds = [(start, min(start + step, queries)) for start in range(0, queries, step)]
    return [(slice(start, end), slice(before + end)) for start, end in bounds]


class _Blocks(torch.autograd.Function):
    """softmax(q k^T + bias) v in blocks of queries, q scaled before.

    The same as the plain loop, for speed: every operand is made contiguous once (the batched
    matmul would copy it at each use), and no gradient is padded or transposed. It is not
    differentiable twice, so wider dtypes, which second derivatives need, keep the loop.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_RHTd: torch.Tensor,
        k_RHTd: torch.Tensor,
        v_RHTd: torch.Tensor,
        bias: torch.Tensor,
    ) -> torch.Tensor:
        kept: list[torch.Tensor] = []
        seen = []
        for block, keys in _blocks(q_RHTd.shape[2], k_RHTd.shape[2]):
            q = q_RHTd[:, :, block].contiguous()
            k, v = k_RHTd[:, :, keys].contiguous(), v_RHTd[:, :, keys].contiguous()
            part, total = _parts(q @ k.transpose(-1, -2) + bias[..., block, keys])
            seen.append(((part @ v) / total).to(v.dtype))
            kept += [q, k, v, part, total]
        ctx.save_for_backward(*kept)
        return torch.cat(seen, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        kept = ctx.saved_tensors
        to_q, to_k, to_v = [], [], []
        blocks = _blocks(grad.shape[2], kept[-4].shape[2])
        for (block, _), place in zip(blocks, range(0, len(kept), 5), strict=True):
            q, k, v, part, total = kept[place : place + 5]
            wanted = (grad[:, :, block] / total).to(v.dtype).contiguous()
            wide = part.to(total.dtype)
            moved = wide * (wanted @ v.transpose(-1, -2))
            to_scores = moved - wide * (moved.sum(-1, keepdim=True) / total)
            to_scores = to_scores.to(part.dtype)
            to_q.append(to_scores @ k)
            to_k.append(to_scores.transpose(-1, -2) @ q)
            to_v.append(part.transpose(-1, -2) @ wanted)
        return torch.cat(to_q, 2), _overlay(to_k), _overlay(to_v), None


def _parts(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a softmax as parts, in the dtype of the scores, and their total [..., 1], wider.

    Shares that add up to 1, which torch has one kernel for; or, in a compiled model, exponentials,
    which spares it to write them in four bytes, to be divided. exp2 is the faster one.
    """
    dtype = torch.promote_types(scores.dtype, torch.float32)
    if not torch.compiler.is_compiling():
        return scores.softmax(-1), scores.new_ones((1,) * scores.ndim, dtype=dtype)
    wide = scores.to(dtype)
    part = ((wide - wide.amax(-1, keepdim=True)) * LOG2E).exp2().to(scores.dtype)
    return part, part.sum(-1, keepdim=True, dtype=dtype)


def _overlay(parts: list[torch.Tensor]) -> torch.Tensor:
    """Return the sum of tensors [R, H, K, d] that all begin at key 0, each longer than the last."""
    bounds = [0, *(part.shape[2] for part in parts)]
    pieces = []
    for index, (start, end) in enumerate(pairwise(bounds)):
        piece = parts[index][:, :, start:end]
        for longer in parts[index + 1 :]:
            piece = piece + longer[:, :, start:end]
        pieces.append(piece)
    return torch.cat(pieces, 2)
