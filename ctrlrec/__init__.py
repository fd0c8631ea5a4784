"""Controllable recommendation with language models: teacher, instructions, SL, RL, evaluation."""

__version__ = "0.1.0"
