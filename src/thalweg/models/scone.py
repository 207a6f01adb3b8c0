"""What the model reads at its input: vectors of frequent n-grams in the place of tokens' own.

    e_i = A(t_j ... t_i) at its last token    t_j ... t_i: the longest known gram that ends at i
    e_i = T(t_i)                              where there is none

T is the token embedding. A is another small transformer (`Scone`), trained with the model; or a
learned vector a gram (`GramTable`), the plain alternative, whose rare rows starve; or what one of
them gave, precomputed in a file that is mapped into memory (`GramFile`, which `freeze` writes).
The vocabulary, the model behind the input, and the head stay as they are.

Decisions:
- a match looks back only, and never past the start of its document or of its row;
- equal grams of a batch go through A once;
- A reads T with learned positions in the gram, and has no norm at its end: its residual stream
  starts near T(t_i), so the model starts near the one without grams;
- matching is host work with shapes that depend on the text: a compiled model breaks its graph here.

Source: arXiv:2502.01637, sec. 3 and algorithms 1 to 3. Not said there: the end without a norm.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from thalweg.data.grams import Grams, Ints, open_grams
from thalweg.errors import DataError, RecipeError
from thalweg.models.block import Block

if TYPE_CHECKING:
    from thalweg.models.transformer import Transformer

__all__ = ["Embedding", "GramFile", "GramModule", "GramTable", "Lookups", "Scone"]

# R rows, T positions, U different grams, N positions with a gram, G grams, K tokens of the longest,
# D width, h half the width of a head.


class Embedding(Protocol):
    """A kind of input, before it is built."""

    def module(self, spec: "Transformer") -> "GramModule":
        """Return it for a decoder, weights on the meta device."""
        ...


class Lookups(NamedTuple):
    """What reading from a file has cost so far."""

    positions: int
    """Looked up."""
    found: int
    """Of them, those with a gram."""
    seconds: float
    """For finding the grams and reading their rows."""


@dataclass(frozen=True)
class Scone:
    """The vector of a gram is what a transformer says at its last token.

    It has the width, heads and feed-forward layers of the model, ordinary attention, no experts.

    Example:
        >>> Scone("grams", layers=2).layers
        2
    """

    grams: str
    """Folder that `count_grams` wrote."""
    layers: int | None = None
    """Blocks of the small transformer; None: as many as the model has, as in the paper."""

    def __post_init__(self) -> None:
        """Refuse a transformer without blocks.

        Raises:
            RecipeError: Below 1.
        """
        if self.layers is not None and self.layers < 1:
            raise RecipeError(
                f"layers={self.layers}",
                expected="1 or more, or None for those of the model",
                where="Scone",
                write='Scone("grams", layers=2)',
            )

    def module(self, spec: "Transformer") -> "GramModule":
        """Return it for a decoder."""
        grams = _fitting(open_grams(self.grams), spec)
        return GramModule(grams, Generated(grams, spec, self.layers or spec.layers))


@dataclass(frozen=True)
class GramTable:
    """A learned vector for each gram."""

    grams: str
    """Folder that `count_grams` wrote."""

    def module(self, spec: "Transformer") -> "GramModule":
        """Return it for a decoder."""
        grams = _fitting(open_grams(self.grams), spec)
        return GramModule(grams, Learned(len(grams), spec.width))


@dataclass(frozen=True)
class GramFile:
    """Vectors that were computed before, in a file mapped into memory; they do not train."""

    folder: str
    """What `freeze` wrote."""

    def module(self, spec: "Transformer") -> "GramModule":
        """Return it for a decoder.

        Raises:
            DataError: No table there, or one of another width.
        """
        grams = _fitting(open_grams(Path(self.folder, "grams")), spec)
        file = Path(self.folder, "table.npy")
        if not file.is_file():
            raise DataError(
                f"a folder without table.npy: '{self.folder}'",
                expected="one vector a gram",
                where="GramFile",
                write=f"freeze(model, {self.folder!r})",
            )
        table_GD = np.load(file, mmap_mode="r").view(np.ndarray)
        if table_GD.shape != (len(grams), spec.width):
            raise DataError(
                f"a table of shape {table_GD.shape}",
                expected=f"({len(grams)}, {spec.width}): grams and width",
                where=str(file),
                write=f"freeze(model, {self.folder!r}) again",
            )
        return GramModule(grams, Stored(table_GD))


class GramModule(nn.Module):
    """The input of a decoder that knows grams."""

    def __init__(self, grams: Grams, vectors: "Generated | Learned | Stored") -> None:
        super().__init__()
        self.known = grams
        self.vectors = vectors
        self.lookups = Lookups(0, 0, 0.0)

    @property
    def reach(self) -> int:
        """How many tokens before it the vector of a token depends on."""
        return self.known.longest - 1

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it untyped
    def forward(
        self,
        x_RTD: torch.Tensor,
        tokens_RT: torch.Tensor,
        document_RT: torch.Tensor | None,
        tokens: nn.Embedding,
    ) -> torch.Tensor:
        """Return the vectors of the last T positions, with those of grams where one ends.

        Args:
            x_RTD: The tokens' own, for as many last positions as are wanted; written to.
            tokens_RT: The tokens, T or more of them.
            document_RT: A gram stays inside equal ids; None: one document a row.
            tokens: T.
        """
        begun = time.perf_counter()
        document = None if document_RT is None else document_RT.cpu().numpy()
        number_RT = self.known.match(tokens_RT.cpu().numpy(), document)[:, -x_RTD.shape[1] :]
        place_N = np.flatnonzero(number_RT.ravel() >= 0)
        number_N = number_RT.ravel()[place_N]
        said_ND = self.vectors(number_N, tokens).to(x_RTD.dtype)
        if isinstance(self.vectors, Stored):
            seen, spent = self.lookups, time.perf_counter() - begun
            self.lookups = Lookups(
                seen.positions + number_RT.size, seen.found + len(place_N), seen.seconds + spent
            )
        where_N = torch.from_numpy(place_N).to(x_RTD.device)
        return x_RTD.flatten(0, 1).index_copy_(0, where_N, said_ND).view_as(x_RTD)


class Generated(nn.Module):
    """A small transformer over the tokens of each gram."""

    def __init__(self, grams: Grams, spec: "Transformer", layers: int) -> None:
        super().__init__()
        self.known = grams
        small = replace(spec, layers=layers, moe=None, latent=None, embedding=None)
        self.turned = small.shape.head_width // 2
        width = torch.empty(grams.longest, spec.width, device="meta")
        self.position_embedding = nn.Parameter(width)
        self.blocks = nn.ModuleList(Block(small) for _ in range(layers))

    def forward(self, number_N: Ints, tokens: nn.Embedding) -> torch.Tensor:
        """Return the vectors of grams [N, D], each computed once."""
        number_U, which_N = np.unique(number_N, return_inverse=True)
        if not len(number_U):  # one goes through all the same: every rank has every gradient
            number_U = np.zeros(1, np.int64)
        device = self.position_embedding.device
        spelled = self.known.spell(number_U)
        tokens_UK = torch.from_numpy(spelled.tokens).to(device)
        last_U = torch.from_numpy(spelled.length - 1).to(device)
        x_UKD = tokens(tokens_UK) + self.position_embedding
        cos = torch.ones(x_UKD.shape[1], 1, self.turned, device=device)  # turned by no angle
        for block in self.blocks:
            x_UKD, _ = block(x_UKD, cos, torch.zeros_like(cos))
        said_UD = x_UKD[torch.arange(len(number_U), device=device), last_U]
        said_ND: torch.Tensor = said_UD[torch.from_numpy(which_N).to(device)]
        return said_ND


class Learned(nn.Module):
    """A vector for each gram."""

    def __init__(self, grams: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(grams, width, device="meta"))

    def forward(self, number_N: Ints, tokens: nn.Embedding) -> torch.Tensor:
        """Return the rows of the grams [N, D]."""
        return nn.functional.embedding(
            torch.from_numpy(number_N).to(self.embedding.device), self.embedding
        )


class Stored(nn.Module):
    """Rows of a file."""

    def __init__(self, table_GD: NDArray[Any]) -> None:
        super().__init__()
        self.table_GD = table_GD

    def forward(self, number_N: Ints, tokens: nn.Embedding) -> torch.Tensor:
        """Return the rows of the grams [N, D]."""
        return torch.from_numpy(np.take(self.table_GD, number_N, 0)).to(tokens.weight.device)


def _fitting(grams: Grams, spec: "Transformer") -> Grams:
    if spec.vocabulary > grams.vocabulary:
        raise DataError(
            f"a model of {spec.vocabulary} token ids",
            expected=f"at most the {grams.vocabulary} that grams were counted in",
            where="Transformer.embedding",
            write=f"count_grams(..., vocabulary={spec.vocabulary})",
        )
    return grams
