"""Objectives: what Learn minimises. One file an axis, not a paper."""

from thalweg.objectives.tokens import NextToken

__all__ = ["NextToken"]
