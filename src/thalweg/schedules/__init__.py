"""Schedules: numbers as functions of time. Imports no torch.

shapes     one number from a start to an end       Constant Linear Cosine Polynomial ... Blend
decays     the same with a curve of their own      Rex Inverse InverseSqrtDecay
algebra    schedules made of schedules             Then Times Least Repeat Sampled By
families   the schedules of whole runs             Warmup Wsd
cycles     up more than once, or once up and down  WsdS Rewarm Cyclic OneCycle
endless    through a constant that needs no end    Wsdc Infinite
power      a power of the tokens seen              Power
tables     measured values                         Table refine
trunks     stable pieces and decays, as phases     stable_then_decay legs forks
adapters   the same in other people's loops        lambda_lr for_trainer for_optax
"""

from thalweg.schedules.adapters import TrainerOptimizers, for_optax, for_trainer, lambda_lr
from thalweg.schedules.algebra import By, Least, Repeat, Sampled, Then, Times
from thalweg.schedules.cycles import Cyclic, OneCycle, Rewarm, WsdS
from thalweg.schedules.decays import Inverse, InverseSqrtDecay, Rex
from thalweg.schedules.endless import Infinite, Wsdc
from thalweg.schedules.families import Warmup, Wsd
from thalweg.schedules.power import Power
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
from thalweg.schedules.tables import Table, refine
from thalweg.schedules.trunks import Leg, TrunkFork, forks, legs, stable_then_decay

__all__ = [
    "Blend",
    "By",
    "Constant",
    "Cosine",
    "Cyclic",
    "Exponential",
    "Infinite",
    "Inverse",
    "InverseSqrt",
    "InverseSqrtDecay",
    "Least",
    "Leg",
    "Linear",
    "OneCycle",
    "OneMinusSqrt",
    "Polynomial",
    "Power",
    "Repeat",
    "Rewarm",
    "Rex",
    "Sampled",
    "Staircase",
    "Table",
    "Then",
    "Times",
    "TrainerOptimizers",
    "TrunkFork",
    "Warmup",
    "Wsd",
    "WsdS",
    "Wsdc",
    "for_optax",
    "for_trainer",
    "forks",
    "lambda_lr",
    "legs",
    "refine",
    "stable_then_decay",
]
