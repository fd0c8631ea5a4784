"""Proximal policy optimisation with a critic and generalised advantage estimation (Schulman et al., 2016 and 2017)."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from omegaconf import MISSING

from ctrlrec.rl import losses
from ctrlrec.rl.advantages import group_moments, returns_by_step
from ctrlrec.rl.algorithms.base import Algorithm, Policy, Term

if TYPE_CHECKING:
    from ctrlrec.rl.experience import Experience


class Whitening(StrEnum):
    """Which tokens advantages are whitened over."""

    batch = "batch"
    task = "task"


@dataclass
class PPOOptions:
    """Settings of PPO's own."""

    whiten_advantages: Whitening = MISSING


class PPO(Algorithm):
    """Actor and critic, two adapters; the paper's algorithm (Section 2.3, spec section 6)."""

    Options = PPOOptions
    critic = True
    options: PPOOptions

    def advantages(self, experience: "Experience", rewards: torch.Tensor) -> None:
        """Estimate advantages by GAE and whiten them over the sampled tokens of the batch, or of each task.

        A greedy answer is not a sample, so the critic does not judge it. The advantage of its tokens at item j is its
        discounted reward from item j on, less the mean of that over the sampled answers to its prompt that reach item
        j; 0 if none does. The critic's baseline would be the same in expectation, but is learnt on samples alone.
        The difference is divided by the deviation of the sampled advantages and not shifted: a greedy answer that is
        worse than what the policy samples gets less likely, one that is better more likely. This is a heuristic, not
        a gradient of the greedy reward, which is flat almost everywhere.
        """
        drawn = experience.drawn
        advantages, experience.returns = losses.advantages_and_returns(
            rewards, experience.values, experience.mask, self.config.gamma, self.config.gae_lambda
        )
        if self.options.whiten_advantages == Whitening.batch:
            experience.advantages = losses.whiten(advantages, drawn, shift_mean=True)
        else:
            tasks = [drawn * (experience.task == task)[:, None] for task in experience.task.unique()]
            experience.advantages = sum(
                (losses.whiten(advantages, mask, shift_mean=True) for mask in tasks), torch.zeros_like(advantages)
            )
        greedy = experience.decided - drawn
        if greedy.any():
            own = greedy_advantages(rewards, experience, self.config.gamma)
            experience.advantages = experience.advantages + own / losses.deviation(advantages, drawn) * greedy

    def terms(self, policy: Policy, experience: "Experience", rows: torch.Tensor, actor: bool = True) -> Iterator[Term]:
        """Yield the surrogate, then the value loss, in which greedy answers have no part."""
        yield from super().terms(policy, experience, rows, actor)
        values = policy.values(experience, rows)
        error, clipped = losses.value_loss(
            values, experience.values[rows], experience.returns[rows], self.config.value_clip
        )
        yield Term(
            "value loss",
            error * experience.drawn[rows],
            self.config.value_coefficient,
            means={"loss/value": error.detach(), "value/clipped": clipped},
        )

    def report(self, experience: "Experience") -> dict[str, float]:
        """Return how much of the variance of returns the critic explains."""
        explained = losses.explained_variance(experience.values, experience.returns, experience.drawn)
        return {"value/explained_variance": float(explained)}


def greedy_advantages(rewards: torch.Tensor, experience: "Experience", gamma: float) -> torch.Tensor:
    """Return each token's discounted reward from its item on, less the mean over sampled answers to its prompt.

    Args:
        rewards: (B, T).
        experience: says which tokens are of which item, prompt and kind.
        gamma: discount from one item to the next.

    Returns:
        (B, T); 0 if no sampled answer reaches the item, and on padding.
    """
    returns, reached = returns_by_step(rewards, experience.mask, experience.step, gamma)
    sampled = reached * experience.drawn_rows
    mean, _, count = group_moments(returns, sampled, experience.group)
    differences = ((returns - mean) * (count > 0)).to(rewards.dtype)
    return differences.gather(1, experience.step) * experience.mask


ALGORITHM = PPO
