"""Rollouts: answers written by a model, judged, and made into batches."""

from thalweg.rollouts.authors import Author, Caller, Local
from thalweg.rollouts.chat import ChatServer
from thalweg.rollouts.choose import best_of, majority, pass_at_k, votes
from thalweg.rollouts.demonstrations import Demonstrations
from thalweg.rollouts.engine import Answer, generate, text_of
from thalweg.rollouts.judge import Judge
from thalweg.rollouts.mismatch import Mismatch
from thalweg.rollouts.pairs import Pair
from thalweg.rollouts.prompting import prompt_ids
from thalweg.rollouts.propose import Drawn, Inspired
from thalweg.rollouts.questions import Questions
from thalweg.rollouts.routes import RouteMismatch
from thalweg.rollouts.sampling import Sampling, draw
from thalweg.rollouts.solved import Solved
from thalweg.rollouts.source import Keep, ReplayWindow, Rollouts
from thalweg.rollouts.synthesis import Made, Synthesis, synthesise
from thalweg.rollouts.vllm import Vllm
from thalweg.rollouts.vote import Majority
from thalweg.rollouts.write import Hint

__all__ = [
    "Answer",
    "Author",
    "Caller",
    "ChatServer",
    "Demonstrations",
    "Drawn",
    "Hint",
    "Inspired",
    "Judge",
    "Keep",
    "Local",
    "Made",
    "Majority",
    "Mismatch",
    "Pair",
    "Questions",
    "ReplayWindow",
    "Rollouts",
    "RouteMismatch",
    "Sampling",
    "Solved",
    "Synthesis",
    "Vllm",
    "best_of",
    "draw",
    "generate",
    "majority",
    "pass_at_k",
    "prompt_ids",
    "synthesise",
    "text_of",
    "votes",
]
