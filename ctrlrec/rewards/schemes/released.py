"""The authors' code: preference relative to the best possible list, control as one over the distance plus one."""

import math

from ctrlrec.rewards.judging import Judgement, Side
from ctrlrec.rewards.list import mean_over_sides, positioned_scores, uncontrolled
from ctrlrec.rewards.schemes import paper
from ctrlrec.rewards.schemes.base import Part, Scheme, Total


def _closeness(side: Side, k: int) -> float:
    condition = side.condition
    return condition.control.released_list_score(
        side.count_in, side.count_out, k, condition.proportion, side.category_size
    )


def list_control(judgement: Judgement) -> float:
    """Return the control part of the list; of I0, one over log2 of the target's position plus 2."""
    if not uncontrolled(judgement):
        return mean_over_sides(judgement, _closeness)
    pairs = zip(judgement.items, judgement.illegal, strict=True)
    legal = [item if illegal is None else None for item, illegal in pairs]
    target = judgement.instruction.target
    return 1 / math.log2(legal.index(target) + 2) if target in legal else 0.0


def whole(judgement: Judgement) -> tuple[Part, Part]:
    """Return the sum of Scores* (Eq. 3) relative to the best list's, and the control of the list."""
    best = sum(1 / math.log2(position + 2) ** 2 for position in range(judgement.instruction.item_count))
    return Total(positioned_scores(judgement), over=best), list_control(judgement)


# The authors give an item of I0 its preference score alone; so does Equation 2, since Algorithm 1 gives I0 that score.
SCHEME = Scheme(paper.item, whole)
