"""List-level reward: Equations 3 to 5 in three readings (spec section 5)."""

import math
from collections.abc import Callable

from ctrlrec.controls.registry import SEQUENTIAL
from ctrlrec.rewards.item import scores
from ctrlrec.rewards.judging import Judgement, Side


def positioned_scores(judgement: Judgement) -> list[float]:
    """Scores* of each item (Eq. 3): -1 illegal, else the score / log2(i + 2), i 0-based."""
    return [
        -1.0 if illegal is not None else score / math.log2(position + 2)
        for position, (score, illegal) in enumerate(zip(scores(judgement), judgement.illegal, strict=True))
    ]


def _mean_over_sides(judgement: Judgement, score: Callable[[Side, int], float]) -> float:
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


def _released_closeness(side: Side, k: int) -> float:
    condition = side.condition
    return condition.control.released_list_score(
        side.count_in, side.count_out, k, condition.proportion, side.category_size
    )


def list_control(judgement: Judgement) -> float:
    """Score_list^ctl (Eq. 4); I0 has no control and takes the sum of Scores* (spec section 5)."""
    if judgement.instruction.task == SEQUENTIAL:
        return sum(positioned_scores(judgement))
    return _mean_over_sides(judgement, _closeness)


def list_control_literal(judgement: Judgement) -> float:
    """Eq. 4 as printed: the sum of Scores* of I0 stands over log2((k - count_in) + 2) with count_in = 0."""
    if judgement.instruction.task == SEQUENTIAL:
        return sum(positioned_scores(judgement)) / math.log2(judgement.instruction.item_count + 2)
    return list_control(judgement)


def list_reward(judgement: Judgement) -> float:
    """R_list (Eq. 5)."""
    return 0.5 * sum(positioned_scores(judgement)) + 0.5 * list_control(judgement)


def list_reward_literal(judgement: Judgement) -> float:
    """R_list (Eq. 5) over the printed Eq. 4."""
    return 0.5 * sum(positioned_scores(judgement)) + 0.5 * list_control_literal(judgement)


def list_reward_released(judgement: Judgement) -> float:
    """The authors' code: preference relative to the best possible list, control as one over the distance plus one."""
    instruction = judgement.instruction
    best = sum(1 / math.log2(position + 2) ** 2 for position in range(instruction.item_count))
    if instruction.task == SEQUENTIAL:
        legal = [
            item if illegal is None else None for item, illegal in zip(judgement.items, judgement.illegal, strict=True)
        ]
        control = 1 / math.log2(legal.index(instruction.target) + 2) if instruction.target in legal else 0.0
    else:
        control = _mean_over_sides(judgement, _released_closeness)
    return 0.5 * sum(positioned_scores(judgement)) / best + 0.5 * control
