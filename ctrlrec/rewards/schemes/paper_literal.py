"""Equation 4 as printed: the sum of Scores* of I0 stands over log2((k - count_in) + 2) with count_in = 0."""

import math

from ctrlrec.rewards.judging import Judgement
from ctrlrec.rewards.list import list_control, positioned_scores, uncontrolled
from ctrlrec.rewards.schemes import paper
from ctrlrec.rewards.schemes.base import Part, Scheme, Total


def whole(judgement: Judgement) -> tuple[Part, Part]:
    """Return the sum of Scores* (Eq. 3) and the control of the list as printed (Eq. 4)."""
    placed = positioned_scores(judgement)
    if uncontrolled(judgement):
        return Total(placed), Total(placed, over=math.log2(judgement.instruction.item_count + 2))
    return Total(placed), list_control(judgement)


SCHEME = Scheme(paper.item, whole)
