"""Scores of items: Equation 1 and Algorithm 1."""

import math

from ctrlrec.controls.registry import SEQUENTIAL
from ctrlrec.rewards.judging import Judgement, Side


def scores(judgement: Judgement) -> list[float]:
    """Return the preference score of each item (Eq. 1): -1 illegal, 1 the target, else 1 / log2(rank + 3)."""
    values = []
    for item, illegal, rank in zip(judgement.items, judgement.illegal, judgement.ranks, strict=True):
        if illegal is not None:
            values.append(-1.0)
        elif item == judgement.instruction.target:
            values.append(1.0)
        else:
            assert rank is not None
            values.append(1 / math.log2(rank + 3))
    return values


def control_scores(judgement: Judgement) -> list[float]:
    """Return the control score of each item (Algorithm 1), the mean over the conditions of a blend.

    Counts include the current item and leave illegal items out. Without a condition (I0) it is the preference score.

    Raises:
        ValueError: for a task that has no control to score, such as search.
    """
    instruction, preference = judgement.instruction, scores(judgement)
    if not judgement.sides:
        if instruction.task != SEQUENTIAL:
            raise ValueError(f"{instruction.task} has no control to score")
        return preference
    by_side = [_side_scores(side, judgement) for side in judgement.sides]
    return [sum(of_item) / len(of_item) for of_item in zip(*by_side, strict=True)]


def _side_scores(side: Side, judgement: Judgement) -> list[float]:
    control, percent = side.condition.control, side.condition.proportion
    count_in = count_out = 0
    values = []
    for inside, illegal in zip(side.inside, judgement.illegal, strict=True):
        if illegal is not None:
            values.append(-1.0)
            continue
        count_in += inside
        count_out += not inside
        values.append(control.item_score(inside, count_in, count_out, judgement.instruction.item_count, percent))
    return values
