"""Tasks: generators of problems and judges of answers, pure in seed, index and level."""

from thalweg.tasks.arithmetic import Addition, Modular, Multiplication
from thalweg.tasks.choice import Choices, verify_choice
from thalweg.tasks.draw import problem_at
from thalweg.tasks.gym import Gym
from thalweg.tasks.knights import Knights
from thalweg.tasks.mathqa import verify_boxed, verify_marked
from thalweg.tasks.maze import Maze
from thalweg.tasks.rows import Rows
from thalweg.tasks.same import same_math
from thalweg.tasks.strings import Strings
from thalweg.tasks.tools import ToolCalls, grade_call
from thalweg.tasks.zebra import ZEBRA_WEIGHTS, Zebra
from thalweg.tasks.zebra_z3 import z3_conflicts

__all__ = [
    "ZEBRA_WEIGHTS",
    "Addition",
    "Choices",
    "Gym",
    "Knights",
    "Maze",
    "Modular",
    "Multiplication",
    "Rows",
    "Strings",
    "ToolCalls",
    "Zebra",
    "grade_call",
    "problem_at",
    "same_math",
    "verify_boxed",
    "verify_choice",
    "verify_marked",
    "z3_conflicts",
]
