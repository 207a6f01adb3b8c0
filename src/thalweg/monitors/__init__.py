"""Monitors: they read the run and never change it."""

from thalweg.monitors.geometry import Sharpness
from thalweg.monitors.heldout import HeldOut
from thalweg.monitors.knowledge import Knowledge
from thalweg.monitors.retention import Memory
from thalweg.monitors.routing import ExpertUse, Pathways
from thalweg.monitors.sparsity import Sparsity
from thalweg.monitors.stability import Stability

__all__ = [
    "ExpertUse",
    "HeldOut",
    "Knowledge",
    "Memory",
    "Pathways",
    "Sharpness",
    "Sparsity",
    "Stability",
]
