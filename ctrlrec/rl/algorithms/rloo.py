"""REINFORCE with a leave-one-out baseline (Ahmadian et al., 2024); no critic."""

from typing import TYPE_CHECKING

import torch

from ctrlrec.rl.advantages import less_the_others
from ctrlrec.rl.algorithms.base import Algorithm

if TYPE_CHECKING:
    from ctrlrec.rl.experience import Experience


class RLOO(Algorithm):
    """The answer's total reward less the mean of the other answers to its prompt, on all of its tokens.

    The KL penalty is part of the reward, per token as in PPO. Advantages keep the scale of the rewards, which
    ``rl.whiten_rewards`` sets. A greedy answer is compared with all sampled ones and is none of the others' baseline.
    """

    grouped = True

    def advantages(self, experience: "Experience", rewards: torch.Tensor) -> None:
        """Take the leave-one-out difference of the total rewards within each group."""
        total = (rewards * experience.mask).sum(1, keepdim=True)
        own = less_the_others(total, experience.drawn_rows, experience.group)
        experience.advantages = own * experience.mask


ALGORITHM = RLOO
