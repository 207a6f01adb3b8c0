"""Shapes by name. A name says the parameters, at the vocabulary the table states.

    name   width layers heads hidden  vocabulary  total    without embedding
    100k      64      2     2    128         320  0.10M    0.08M
    250k      64      4     2    192         512  0.25M    0.21M
    1m       128      4     2    352        2048  1.07M    0.80M
    10m      256      8     4   1024        8192  10.5M    8.4M
    50m      512     12     8   1536       16384  49.3M    40.9M
    125m     768     12    12   2048       49152  122.7M   85.0M
    350m    1024     24    16   2816       49152  358.7M   308.4M
    1b      2048     16  32/8   8192       49152  1.07B    0.97B

Totals are for a tied head (the default: below 1b an untied one spends a large share of the
parameters); another vocabulary changes them by width a token. Heads are 64 wide where the width
allows two of them: on CPU attention with heads of 64 costs two thirds of what heads of 32 do.
"""

from typing import NamedTuple

from thalweg.errors import RecipeError, did_you_mean
from thalweg.models.transformer import Decoder, Transformer

__all__ = ["SIZES", "NamedSize", "Parameters", "parameters", "size"]


class NamedSize(NamedTuple):
    """One line of the table."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    vocabulary: int
    """The vocabulary at which the name is right."""


SIZES = {
    "100k": NamedSize(64, 2, 2, 2, 128, 320),
    "250k": NamedSize(64, 4, 2, 2, 192, 512),
    "1m": NamedSize(128, 4, 2, 2, 352, 2048),
    "10m": NamedSize(256, 8, 4, 4, 1024, 8192),
    "50m": NamedSize(512, 12, 8, 8, 1536, 16384),
    "125m": NamedSize(768, 12, 12, 12, 2048, 49152),
    "350m": NamedSize(1024, 24, 16, 16, 2816, 49152),
    "1b": NamedSize(2048, 16, 32, 8, 8192, 49152),
}


def size(
    name: str, vocabulary: int, positions: int, *, tied: bool = True, qk_norm: bool = False
) -> Transformer:
    """Return the decoder of a name.

    Args:
        name: One of `SIZES`, in any case.
        vocabulary: Token ids of the tokenizer.
        positions: Longest row.
        tied: Whether the head is the embedding.
        qk_norm: Whether queries and keys are normalised.

    Raises:
        RecipeError: No such name, or counts that are none.

    Example:
        >>> size("10m", 4096, 256).width
        256
    """
    known = name.lower() if isinstance(name, str) else ""
    if known not in SIZES:
        raise RecipeError(
            f"model size {name!r}",
            expected="first one of " + ", ".join(SIZES) + "; then vocabulary and positions",
            where="size",
            write=did_you_mean(known, SIZES) if known else 'size("250k", 512, 64)',
        )
    width, layers, heads, kv_heads, hidden, _ = SIZES[known]
    return Transformer(
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        hidden=hidden,
        positions=positions,
        tied=tied,
        qk_norm=qk_norm,
    )


class Parameters(NamedTuple):
    """Weights of a decoder."""

    total: int
    active: int
    """Without the experts that a token does not go to."""


def parameters(spec: Transformer) -> Parameters:
    """Return the number of weights, embedding included.

    Example:
        >>> parameters(size("1m", 2048, 128)).total
        1066112
    """
    total = sum(parameter.numel() for parameter in Decoder(spec).parameters())
    if spec.moe is None:
        return Parameters(total, total)
    hidden = spec.shape.hidden
    all_, met = (spec.moe.weights(spec.width, hidden, active=active) for active in (False, True))
    return Parameters(total, total - spec.layers * (all_ - met))
