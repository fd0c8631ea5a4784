"""HR and NDCG: whether, and how early, the target is among the first items (spec section 7)."""

import math
from collections.abc import Callable

from ctrlrec.evaluation.metrics.base import Answer, Metric
from ctrlrec.evaluation.settings import SETTINGS

_OF_TEN = tuple(name for name in SETTINGS if name != "formatting")


def _place(answer: Answer, depth: int | None) -> int | None:
    """Return the target's first place among the first ``depth`` items (None: among all k); None if it is not there."""
    items, target = answer.scored[:depth], answer.question["target"]
    return items.index(target) if target in items else None


def hit_rate(depth: int | None) -> Callable[[Answer], float]:
    """Return HR at a depth, None for k: 1 if the target is there."""
    return lambda answer: float(_place(answer, depth) is not None)


def ndcg(depth: int | None) -> Callable[[Answer], float]:
    """Return NDCG at a depth, None for k: 1/log2(place + 2) of the target's 0-based place, 0 if it is not there.

    With one relevant item the ideal gain is 1.
    """

    def gain(answer: Answer) -> float:
        place = _place(answer, depth)
        return 0.0 if place is None else 1 / math.log2(place + 2)

    return gain


METRICS = (
    Metric("HR@5", hit_rate(5), unit="", settings=_OF_TEN, summary=False, columns=()),
    Metric("NDCG@5", ndcg(5), unit="", settings=_OF_TEN, summary=False, columns=()),
    Metric("HR@10", hit_rate(10), unit="", settings=_OF_TEN, columns=()),
    Metric("NDCG@10", ndcg(10), unit="", settings=_OF_TEN, columns=()),
    Metric("HR@K", hit_rate(None), unit="", settings=("formatting",), columns=()),
    Metric("NDCG@K", ndcg(None), unit="", settings=("formatting",), columns=()),
)
