"""Evaluation: held-out loss."""

from thalweg.evaluate.likelihood import HeldOutLoss, held_out_loss

__all__ = ["HeldOutLoss", "held_out_loss"]
