"""Evaluation: held-out loss, and what a model writes behind a cue."""

from thalweg.evaluate.likelihood import HeldOutLoss, held_out_loss
from thalweg.evaluate.recall import continued

__all__ = ["HeldOutLoss", "continued", "held_out_loss"]
