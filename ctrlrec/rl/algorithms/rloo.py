"""REINFORCE with a leave-one-out baseline (Ahmadian et al., 2024); no critic."""

from ctrlrec.rl.advantages import less_the_others
from ctrlrec.rl.algorithms.base import Compared


class RLOO(Compared):
    """The answer's total reward less the mean of the other answers to its prompt, on all of its tokens.

    Advantages keep the scale of the rewards, which ``rl.whiten_rewards`` sets.
    """

    compare = less_the_others


ALGORITHM = RLOO
