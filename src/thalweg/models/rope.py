"""Rotary positions: the angles, and their stretch for long rows.

Source: arXiv:2104.09864, sec. 3.4.
"""

import math
from dataclasses import dataclass

import torch

__all__ = ["Llama3Rope", "angles"]

# T positions, h half of a head's width.


@dataclass(frozen=True, kw_only=True)
class Llama3Rope:
    """Stretch of the slow rotary frequencies, for rows longer than those first trained on.

    Source: the `llama3` rope type of Hugging Face configurations.
    """

    factor: float
    """Slow frequencies are divided by this."""
    low_freq_factor: float
    """Wavelengths above original_positions / low_freq_factor are stretched in full."""
    high_freq_factor: float
    """Wavelengths below original_positions / high_freq_factor are left alone."""
    original_positions: int
    """Longest row of the first training."""

    def stretch(self, frequency_h: torch.Tensor) -> torch.Tensor:
        """Return the frequencies [h] in radians a position, slow ones divided, smooth between."""
        turns_h = frequency_h * (self.original_positions / (2 * math.pi))
        span = self.high_freq_factor - self.low_freq_factor
        keep_h = ((turns_h - self.low_freq_factor) / span).clamp(0.0, 1.0)
        return frequency_h * (keep_h + (1.0 - keep_h) / self.factor)


def angles(
    theta: float, width: int, positions: int, scaling: Llama3Rope | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cosines and sines [positions, h] of position * theta^(-2i/d), float32.

    Args:
        theta: Base of the wavelengths.
        width: d, of a head; even.
        positions: Longest row.
        scaling: Stretch for long rows.
    """
    frequency_h = theta ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    if scaling is not None:
        frequency_h = scaling.stretch(frequency_h)
    angle_Th = torch.outer(torch.arange(positions, dtype=torch.float32), frequency_h)
    return angle_Th.cos(), angle_Th.sin()
