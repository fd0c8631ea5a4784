"""Controllable recommendation with language models: teacher, instructions, SL, RL, evaluation.

Recommending as a library: ``from ctrlrec import Recommender`` (:mod:`ctrlrec.app.recommender`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctrlrec.app.answers import Outcome, Recommendation, RecommendedItem
    from ctrlrec.app.recommender import Recommender
    from ctrlrec.app.wishes import Wish

__version__ = "0.1.0"
__all__ = ["Outcome", "Recommendation", "RecommendedItem", "Recommender", "Wish"]

# Imported when first asked for, so that ``import ctrlrec`` does not wait for torch.
_HOMES = {
    "Outcome": "ctrlrec.app.answers",
    "Recommendation": "ctrlrec.app.answers",
    "RecommendedItem": "ctrlrec.app.answers",
    "Recommender": "ctrlrec.app.recommender",
    "Wish": "ctrlrec.app.wishes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ctrlrec' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
