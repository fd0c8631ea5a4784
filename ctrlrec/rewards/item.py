"""Item-level reward: Equations 1 and 2, Algorithm 1."""

import math

from ctrlrec.controls.instruction import Task
from ctrlrec.rewards.judging import Judgement


def scores(judgement: Judgement) -> list[float]:
    """Preference score of each item (Eq. 1): -1 illegal, 1 the target, else 1 / log2(rank + 3)."""
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
    """Control score of each item (Algorithm 1); counts include the item at hand and leave illegal items out.

    Comparisons with k*m are made in integers, 100 * count against k * percent. In the at-least branch the first test
    is count_in > k*m: as printed, "> k", it could never hold (spec section 5).
    """
    instruction = judgement.instruction
    task, k, percent = instruction.task, instruction.item_count, instruction.proportion or 0
    wanted_in, wanted_out = k * percent, k * (100 - percent)
    count_in = count_out = 0
    values = []
    for score, illegal, inside in zip(scores(judgement), judgement.illegal, judgement.inside, strict=True):
        if illegal is not None:
            values.append(-1.0)
            continue
        count_in += inside
        count_out += not inside
        if task == Task.CATEGORY_POSITIVE:
            values.append(float(inside))
        elif task == Task.CATEGORY_NEGATIVE:
            values.append(float(not inside))
        elif task == Task.PROPORTION_AT_MOST:
            values.append(_at_most(not inside, 100 * count_in, 100 * count_out, wanted_in, wanted_out))
        elif task == Task.PROPORTION_AT_LEAST:
            # The mirror of at most: inside and outside change places.
            values.append(_at_most(inside, 100 * count_out, 100 * count_in, wanted_out, wanted_in))
        elif task == Task.PROPORTION_ABOUT:
            values.append(_about(inside, 100 * count_in, 100 * count_out, wanted_in, wanted_out))
        elif task == Task.SEQUENTIAL:
            values.append(score)
        else:
            raise ValueError(f"{task} has no control to score")
    return values


def _at_most(welcome: bool, count_in: int, count_out: int, wanted_in: int, wanted_out: int) -> float:
    if count_out > wanted_out:
        return 0.5
    if welcome:
        return 1.0
    return 0.5 if count_in < wanted_in else 0.0


def _about(inside: bool, count_in: int, count_out: int, wanted_in: int, wanted_out: int) -> float:
    if inside:
        return 1.0 if count_in <= wanted_in else 0.0
    if count_in >= wanted_in:
        return 1.0
    return 0.5 if count_out <= wanted_out else 0.0


def item_rewards(judgement: Judgement) -> list[float]:
    """R_item of each item (Eq. 2): half preference, half control."""
    pairs = zip(scores(judgement), control_scores(judgement), strict=True)
    return [0.5 * score + 0.5 * control for score, control in pairs]


def item_rewards_released(judgement: Judgement) -> list[float]:
    """As in the authors' code: I0 takes the preference score alone, the others Eq. 2."""
    return scores(judgement) if judgement.instruction.task == Task.SEQUENTIAL else item_rewards(judgement)
