"""Engines that answer prompts, one module for each choice of ``generation.engine``."""

from collections.abc import Mapping

from ctrlrec.config.choices import Choices
from ctrlrec.generation.engines.base import Engine, Setup

ENGINES: Mapping[str, type[Engine]] = Choices("generation.engines", "ENGINE")


def make_engine(name: str, setup: Setup) -> Engine:
    """Return the engine that ``generation.engine`` names; use it in a ``with`` block, which frees what it holds.

    Raises:
        CtrlRecError: if it cannot answer with this model, or its package or key is missing.
    """
    return ENGINES[name](setup)
