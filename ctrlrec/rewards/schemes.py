"""The readings of the reward by their configured name (``reward=``)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ctrlrec.rewards.item import item_rewards, item_rewards_released
from ctrlrec.rewards.judging import Judgement
from ctrlrec.rewards.list import list_reward, list_reward_literal, list_reward_released


@dataclass(frozen=True, slots=True)
class RewardScheme:
    """How an answer is scored: one number per item and one for the list (before its weight)."""

    item: Callable[[Judgement], list[float]]
    list: Callable[[Judgement], float]


SCHEMES: Mapping[str, RewardScheme] = {
    "paper": RewardScheme(item_rewards, list_reward),
    "paper_literal": RewardScheme(item_rewards, list_reward_literal),
    "released": RewardScheme(item_rewards_released, list_reward_released),
}
