"""Vectors of all grams, computed once and kept in a file beside the model."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from thalweg.errors import RecipeError
from thalweg.models.scone import GramFile
from thalweg.models.transformer import Decoder

__all__ = ["freeze"]


@torch.no_grad()
def freeze(
    decoder: Decoder,
    folder: str | Path,
    *,
    dtype: Literal["float32", "float16"] = "float32",
    together: int = 4096,
) -> Decoder:
    """Write the vector of every gram, and return the decoder that reads them there.

    Behind its input it is the same module: it shares the weights.

    Args:
        decoder: With `Scone` or `GramTable` at its input.
        folder: Gets `table.npy`, [G, D] in the order of the grams, and the grams.
        dtype: Of the table: 4 or 2 bytes a number.
        together: Grams computed at once.

    Raises:
        RecipeError: The decoder has no grams.

    Source: arXiv:2502.01637, sec. 3, "Inference with the f-gram embedding layer".
    """
    if decoder.grams is None:
        raise RecipeError(
            "a decoder without grams",
            expected="one with Scone or GramTable at its input",
            where="freeze",
            write='Transformer(embedding=Scone("grams"), ...)',
        )
    known, place = decoder.grams.known, Path(folder)
    known.save(place / "grams", known.made)
    shape = (len(known), decoder.spec.width)
    table_GD = np.lib.format.open_memmap(place / "table.npy", "w+", np.dtype(dtype), shape)
    for start in range(0, len(known), together):
        number = np.arange(start, min(start + together, len(known)))
        said = decoder.grams.vectors(number, decoder.embedding)
        table_GD[number] = said.float().cpu().numpy()
    table_GD.flush()
    made = Decoder(replace(decoder.spec, embedding=GramFile(str(place))))
    weights = decoder.state_dict()
    made.load_state_dict({name: weights[name] for name in made.state_dict()}, assign=True)
    made.cos, made.sin = decoder.cos, decoder.sin
    return made.eval()
