"""GRPO by items: each item is compared with the items at the same number in other answers to the prompt; no critic."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from omegaconf import MISSING

from ctrlrec.rl.advantages import returns_by_step, standardised
from ctrlrec.rl.algorithms.base import Algorithm

if TYPE_CHECKING:
    from ctrlrec.rl.experience import Experience


class Scale(StrEnum):
    """What differences to the mean of a group are divided by: its own deviation, or one of all groups together."""

    group = "group"
    batch = "batch"


@dataclass
class ItemGRPOOptions:
    """Settings of item_grpo's own."""

    scale: Scale = MISSING


class ItemGRPO(Algorithm):
    """The discounted rewards from a token's item on, standardised at that item number within the group.

    Item rewards stand at their items and the list reward at the end, which is a step of its own after the last item.
    ``rl.gamma`` discounts from one step to the next. An answer that ended earlier has no part in a later step, and a
    step that one answer alone reaches has advantage 0. The KL penalty is part of the reward, per token as in PPO. A
    greedy or guided answer is compared with the sampled ones and does not enter their mean and deviation.
    """

    Options = ItemGRPOOptions
    grouped = True
    options: ItemGRPOOptions

    def advantages(self, experience: "Experience", rewards: torch.Tensor) -> None:
        """Standardise the returns of each step within each group, then give them to the tokens of the step."""
        returns, reached = returns_by_step(rewards, experience.mask, experience.step, self.config.gamma)
        own = standardised(
            returns, reached * experience.drawn_rows, experience.group, self.options.scale == Scale.batch
        )
        experience.advantages = own.gather(1, experience.step) * experience.mask


ALGORITHM = ItemGRPO
