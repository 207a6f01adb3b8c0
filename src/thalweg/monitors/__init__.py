"""Monitors: they read the run and never change it."""

from thalweg.monitors.heldout import HeldOut

__all__ = ["HeldOut"]
