"""List-level reward: Equations 3 to 5 in three readings (spec section 5)."""

import math
from fractions import Fraction

from ctrlrec.controls.instruction import Task
from ctrlrec.rewards.item import scores
from ctrlrec.rewards.judging import Judgement


def positioned_scores(judgement: Judgement) -> list[float]:
    """Scores* of each item (Eq. 3): -1 illegal, else the score / log2(i + 2), i 0-based."""
    return [
        -1.0 if illegal is not None else score / math.log2(position + 2)
        for position, (score, illegal) in enumerate(zip(scores(judgement), judgement.illegal, strict=True))
    ]


def _excess(judgement: Judgement) -> Fraction:
    """How far the list is from what the control asks, in items: x of Eq. 4's 1 / log2(x + 2)."""
    instruction = judgement.instruction
    demand = Fraction(instruction.item_count * (instruction.proportion or 0), 100)
    match instruction.task:
        case Task.CATEGORY_POSITIVE:
            return Fraction(instruction.item_count - judgement.count_in)
        case Task.CATEGORY_NEGATIVE:
            return Fraction(instruction.item_count - judgement.count_out)
        case Task.PROPORTION_AT_MOST:
            return max(judgement.count_in - demand, Fraction(0))
        case Task.PROPORTION_AT_LEAST:
            return max(demand - judgement.count_in, Fraction(0))
        case Task.PROPORTION_ABOUT:
            return abs(judgement.count_in - demand)
    raise ValueError(f"{instruction.task} has no control to measure")


def list_control(judgement: Judgement) -> float:
    """Score_list^ctl (Eq. 4); I0 has no control and takes the sum of Scores* (spec section 5)."""
    if judgement.instruction.task == Task.SEQUENTIAL:
        return sum(positioned_scores(judgement))
    return 1 / math.log2(_excess(judgement) + 2)


def list_control_literal(judgement: Judgement) -> float:
    """Eq. 4 as printed: the sum of Scores* of I0 stands over log2((k - count_in) + 2) with count_in = 0."""
    if judgement.instruction.task == Task.SEQUENTIAL:
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
    k = instruction.item_count
    best = sum(1 / math.log2(position + 2) ** 2 for position in range(k))
    excess = _excess(judgement) if instruction.task != Task.SEQUENTIAL else Fraction(0)
    match instruction.task:
        case Task.SEQUENTIAL:
            legal = [
                item if illegal is None else None
                for item, illegal in zip(judgement.items, judgement.illegal, strict=True)
            ]
            control = 1 / math.log2(legal.index(instruction.target) + 2) if instruction.target in legal else 0.0
        case Task.CATEGORY_POSITIVE:
            control = 1 / (min(k, judgement.category_size) - judgement.count_in + 1)
        case Task.CATEGORY_NEGATIVE:
            control = 1 / float(excess + 1)
        case _:
            demand = Fraction(k * (instruction.proportion or 0), 100)
            control = 1.0 if excess == 0 else 1 / float(abs(judgement.count_in - demand) + 1)
    return 0.5 * sum(positioned_scores(judgement)) / best + 0.5 * control
