"""Group relative policy optimisation (Shao et al., 2024) with outcome rewards; no critic."""

from ctrlrec.rl.advantages import standardised
from ctrlrec.rl.algorithms.base import Compared


class GRPO(Compared):
    """The answer's total reward, standardised among the answers to its prompt, on all of its tokens."""

    compare = standardised


ALGORITHM = GRPO
