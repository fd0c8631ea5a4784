"""The paper, as spec section 5 reads it: the control part of I0 is the sum of Scores*."""

from ctrlrec.rewards.item import control_scores, scores
from ctrlrec.rewards.judging import Judgement
from ctrlrec.rewards.list import list_control, positioned_scores, uncontrolled
from ctrlrec.rewards.schemes.base import Part, Scheme, Total


def item(judgement: Judgement) -> tuple[list[float], list[float]]:
    """Return the scores of Equation 1 and of Algorithm 1."""
    return scores(judgement), control_scores(judgement)


def whole(judgement: Judgement) -> tuple[Part, Part]:
    """Return the sum of Scores* (Eq. 3) and the control of the list (Eq. 4)."""
    preference = Total(positioned_scores(judgement))
    return preference, preference if uncontrolled(judgement) else list_control(judgement)


SCHEME = Scheme(item, whole)
