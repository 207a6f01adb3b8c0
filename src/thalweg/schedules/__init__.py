"""Schedules: numbers as functions of time. Imports no torch.

shapes     one number from a start to an end       Constant Linear Cosine Polynomial ... Blend
algebra    schedules made of schedules             Then Times Least Repeat By
families   the schedules of whole runs             Warmup Wsd
adapters   the same in other people's loops        lambda_lr for_trainer for_optax
"""

from thalweg.schedules.adapters import TrainerOptimizers, for_optax, for_trainer, lambda_lr
from thalweg.schedules.algebra import By, Least, Repeat, Then, Times
from thalweg.schedules.families import Warmup, Wsd
from thalweg.schedules.shapes import (
    Blend,
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    OneMinusSqrt,
    Polynomial,
    Staircase,
)

__all__ = [
    "Blend",
    "By",
    "Constant",
    "Cosine",
    "Exponential",
    "InverseSqrt",
    "Least",
    "Linear",
    "OneMinusSqrt",
    "Polynomial",
    "Repeat",
    "Staircase",
    "Then",
    "Times",
    "TrainerOptimizers",
    "Warmup",
    "Wsd",
    "for_optax",
    "for_trainer",
    "lambda_lr",
]
