"""Group relative policy optimisation (Shao et al., 2024) with outcome rewards; no critic."""

from typing import TYPE_CHECKING

import torch

from ctrlrec.rl.advantages import standardised
from ctrlrec.rl.algorithms.base import Algorithm

if TYPE_CHECKING:
    from ctrlrec.rl.experience import Experience


class GRPO(Algorithm):
    """The answer's total reward, standardised among the answers to its prompt, on all of its tokens.

    The KL penalty is part of the reward, per token as in PPO, and not a term of the loss as in the paper of GRPO. A
    greedy answer is compared with the sampled ones and does not enter their mean and deviation.
    """

    grouped = True

    def advantages(self, experience: "Experience", rewards: torch.Tensor) -> None:
        """Standardise the total rewards within each group."""
        total = (rewards * experience.mask).sum(1, keepdim=True)
        own = standardised(total, experience.drawn_rows, experience.group)
        experience.advantages = own * experience.mask


ALGORITHM = GRPO
