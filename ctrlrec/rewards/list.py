"""Scores of lists: Equations 3 and 4 (spec section 5)."""

import math
from collections.abc import Callable

from ctrlrec.controls.registry import SEQUENTIAL
from ctrlrec.rewards.item import scores
from ctrlrec.rewards.judging import Judgement, Side


def positioned_scores(judgement: Judgement) -> list[float]:
    """Return Scores* of each item (Eq. 3): -1 illegal, else the score / log2(i + 2), i 0-based."""
    return [
        -1.0 if illegal is not None else score / math.log2(position + 2)
        for position, (score, illegal) in enumerate(zip(scores(judgement), judgement.illegal, strict=True))
    ]


def uncontrolled(judgement: Judgement) -> bool:
    """Return whether the instruction asks for items alone (I0)."""
    return judgement.instruction.task == SEQUENTIAL


def mean_over_sides(judgement: Judgement, score: Callable[[Side, int], float]) -> float:
    """Return the mean of a list control score over the conditions; ``score`` takes a side and k.

    Raises:
        ValueError: for a task that has no control to measure, such as search.
    """
    if not judgement.sides:
        raise ValueError(f"{judgement.instruction.task} has no control to measure")
    k = judgement.instruction.item_count
    return sum(score(side, k) for side in judgement.sides) / len(judgement.sides)


def _closeness(side: Side, k: int) -> float:
    """Return 1 / log2(x + 2) of Equation 4, x items off."""
    condition = side.condition
    return 1 / math.log2(condition.control.off(side.count_in, side.count_out, k, condition.proportion) + 2)


def list_control(judgement: Judgement) -> float:
    """Return Score_list^ctl of an answer to a control (Eq. 4), the mean over the conditions of a blend."""
    return mean_over_sides(judgement, _closeness)
