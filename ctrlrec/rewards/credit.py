"""Where rewards go: each item's on its line's last token, the list's on the last token of the answer."""

from collections.abc import Sequence

import torch


def place(
    item_rewards: Sequence[Sequence[float]],
    list_rewards: Sequence[float],
    reward_at: Sequence[Sequence[int]],
    length: int,
    list_weight: float,
) -> torch.Tensor:
    """Per-token rewards of a batch (Section 2.3).

    Args:
        item_rewards: B lists of R_item; empty lists for a variant without item rewards.
        list_rewards: B values of R_list, before their weight.
        reward_at: B lists of generated-token indices: one per item reward, then that of the list reward.
        length: T, tokens of the longest answer.
        list_weight: factor on R_list (10 in the paper).

    Returns:
        (B, T) float tensor; rewards that fall on one token add up.
    """
    rewards = torch.zeros(len(list_rewards), length)
    for row, (items, whole, places) in enumerate(zip(item_rewards, list_rewards, reward_at, strict=True)):
        for value, position in zip(items, places[:-1] if items else (), strict=True):
            rewards[row, position] += value
        rewards[row, places[-1]] += list_weight * whole
    return rewards
