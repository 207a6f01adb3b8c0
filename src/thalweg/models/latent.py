"""Multi-head latent attention: keys and values of all heads from one small vector a token.

    c = RMSNorm(W_c x) [k];  key_h = [W_h c | RoPE(W_r x)];  value_h = V_h c;  query_h = W_q,h x

A cache keeps c and the rotated part of the key, which all heads share: k + r numbers a token and
layer, where plain heads keep 2 H d. Decisions:
- queries, c and the shared key are one matrix, W_h and V_h of all heads another;
- one new query reads the cache without expanding it: W_h moves to the query's side, V_h behind the
  mean (arXiv:2405.04434, sec. 2.1.2), which makes all heads read one key;
- queries have no latent of their own, as in PLM (arXiv:2503.12167, sec. 3).

Source: arXiv:2405.04434, eq. (9) to (13), (14) to (19) with q = W_q x.
"""

from dataclasses import dataclass

import torch
from torch import nn

from thalweg.errors import RecipeError
from thalweg.models.attention import look
from thalweg.models.layers import RmsNorm, linear
from thalweg.models.pointwise import rotate

__all__ = ["Latent", "LatentHeads"]

# R rows, T positions, D width, H heads, n width of a head without rotation, r rotated width,
# d = n + r of a query or key, e width of a value, k rank, S slots and C columns of a cache.

_EPS = 1e-6
"""Of the norm of c, as in DeepSeek-V3 and PLM, whatever the eps of the other norms."""


@dataclass(frozen=True, kw_only=True)
class Latent:
    """The widths of latent attention, an option of `Transformer`.

    Example:
        >>> Latent(rank=512, nope=128, rope=64, value=128).cached
        576
    """

    rank: int
    """Size of the vector that keys and values are made of."""
    nope: int
    """Width of a query or key that is not rotated."""
    rope: int
    """Width of a query or key that is; even. The key's is shared by all heads."""
    value: int
    """Width of a value."""

    def __post_init__(self) -> None:
        """Refuse what is no width.

        Raises:
            RecipeError: Below 1, or an odd rotated width.
        """
        for name in ("rank", "nope", "rope", "value"):
            width = getattr(self, name)
            if isinstance(width, bool) or not isinstance(width, int) or width < 1:
                expected = f"{name}: a whole number, 1 or more"
                raise _misfit(f"{name}={width!r}", expected, f"{name}=64")
        if self.rope % 2:
            expected = "an even width: rotary positions turn pairs"
            raise _misfit(f"rope={self.rope}", expected, f"rope={self.rope + 1}")

    @property
    def width(self) -> int:
        """Width of a query or key."""
        return self.nope + self.rope

    @property
    def cached(self) -> int:
        """Numbers that a cache keeps, a token and layer."""
        return self.rank + self.rope

    def weights(self, width: int, heads: int) -> int:
        """Return the number of weights of one block's attention, norms left out."""
        read = width * (heads * self.width + self.cached)
        return read + heads * (self.rank * (self.nope + self.value) + self.value * width)

    def interleaved(self, heads: int) -> torch.Tensor:
        """Return, for each row of our `qkv`, its row where rotary pairs stand next to each other.

        int64 [H d + k + r]. Ours turns pair (i, i + r/2); DeepSeek and PLM turn (2 i, 2 i + 1).
        """
        turned_r = torch.arange(self.rope).view(-1, 2).T.flatten()
        head_d = torch.cat([torch.arange(self.nope), self.nope + turned_r])
        starts_H1 = self.width * torch.arange(heads)[:, None]
        rank_k = heads * self.width + torch.arange(self.rank)
        key_r = heads * self.width + self.rank + turned_r
        return torch.cat([(starts_H1 + head_d).flatten(), rank_k, key_r])


class LatentHeads(nn.Module):
    """The heads of one block: everything of its attention but norm and output."""

    def __init__(self, latent: Latent, heads: int, width: int, query_scale: float = 1.0) -> None:
        super().__init__()
        self.spec, self.heads, self.query_scale = latent, heads, query_scale
        self.qkv = linear(width, heads * latent.width + latent.cached)
        self.norm = RmsNorm(latent.rank, _EPS)
        self.expand = linear(latent.rank, heads * (latent.nope + latent.value))

    def project(
        self, x_RTD: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rotated queries [R, H, T, d], and c with the rotated key [R, 1, T, k + r]."""
        rows, length, _ = x_RTD.shape
        spec = self.spec
        sizes = (self.heads * spec.width, spec.rank, spec.rope)
        q, c_RTk, key_RTr = self.qkv(x_RTD).split(sizes, -1)
        plain, turned = q.view(rows, length, self.heads, -1).split((spec.nope, spec.rope), -1)
        q_RHTd = torch.cat([plain.transpose(1, 2), rotate(turned, cos, sin)], -1)
        q_RHTd = q_RHTd if self.query_scale == 1.0 else q_RHTd * self.query_scale
        key_R1Tr = rotate(key_RTr[:, :, None], cos, sin)
        return q_RHTd, torch.cat([self.norm(c_RTk)[:, None], key_R1Tr], -1)

    def expanded(self, kept_R1Tk: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys [R, H, T, d] and values [R, H, T, e] of what `project` gave."""
        spec = self.spec
        c_R1Tk, key_R1Tr = torch.split(kept_R1Tk, [spec.rank, spec.rope], -1)
        both = self.expand(c_R1Tk[:, 0]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        plain_RHTn, v_RHTe = both.split((spec.nope, spec.value), -1)
        k_RHTd = torch.cat([plain_RHTn, key_R1Tr.expand(-1, self.heads, -1, -1)], -1)
        return k_RHTd, v_RHTe.contiguous()

    def look(
        self, q_SH1d: torch.Tensor, kept_S1Ck: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """Return the attention [S, H, 1, e] of one query a head on what a cache kept.

        Args:
            q_SH1d: Of `project`.
            kept_S1Ck: Of `project`, for all columns.
            hidden: Where not to look, bool [S, 1, 1, C].
        """
        spec = self.spec
        both_Hwk = self.expand.weight.view(self.heads, -1, spec.rank)
        to_key_Hnk, to_value_Hek = torch.split(both_Hwk, [spec.nope, spec.value], 1)
        plain, turned = torch.split(q_SH1d, [spec.nope, spec.rope], -1)
        asked_SH1k = torch.cat([plain @ to_key_Hnk, turned], -1)
        c_S1Ck = kept_S1Ck[..., : spec.rank]
        mean_SH1k = look(asked_SH1k, kept_S1Ck, c_S1Ck, hidden, scale=spec.width**-0.5)
        return mean_SH1k @ to_value_Hek.transpose(-1, -2)


def _misfit(given: str, expected: str, write: str) -> RecipeError:
    return RecipeError(given, expected=expected, where="Transformer.latent", write=write)
