"""Rewards, advantages and losses of PPO as pure tensor functions; every tensor is (B, T) over generated tokens.

``mask`` is 1 on generated tokens and 0 on padding after an answer. Nothing on padding ever enters a result. Sources:
Schulman et al., 2016 (advantages) and 2017 (the clipped surrogate), Rafailov et al., 2023 (preferences).
"""

import torch
from torch.nn import functional


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over the tokens of all answers, each token alike; 0-dimensional."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def total(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the sum over the tokens of all answers, or of all values (u,) that stand for several tokens each."""
    return values.sum() if values.ndim == 1 else (values * mask).sum()


def deviation(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation over the tokens of all answers, never quite 0; 0-dimensional."""
    return (masked_mean((values - masked_mean(values, mask)) ** 2, mask) + 1e-8).sqrt()


def whiten(values: torch.Tensor, mask: torch.Tensor, shift_mean: bool) -> torch.Tensor:
    """Scale to unit variance over tokens; with ``shift_mean`` also to mean zero.

    Args:
        values: (B, T).
        mask: (B, T).
        shift_mean: False leaves the mean where scaling puts it, so that a reward of zero stays zero.

    Returns:
        (B, T), zero on padding.
    """
    centred = values - masked_mean(values, mask) if shift_mean else values
    return centred / deviation(values, mask) * mask


def penalised_rewards(
    placed: torch.Tensor, log_probs: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor, coefficient: float
) -> torch.Tensor:
    """Return rule rewards less the KL penalty against the SL model: r - coefficient * (log pi - log pi_ref)."""
    return (placed - coefficient * (log_probs - reference)) * mask


def advantages_and_returns(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, gae_lambda: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate generalised advantages (Schulman et al., 2016, Eq. 16) and returns.

    delta_t = r_t + gamma * V_{t+1} - V_t,  A_t = delta_t + gamma * lambda * A_{t+1}; after the last token all is zero.

    Args:
        rewards: (B, T).
        values: (B, T) V of the state before token t.
        mask: (B, T), ones first.
        gamma: discount.
        gae_lambda: trade-off of bias and variance.

    Returns:
        Advantages and returns (advantage + value), both (B, T), zero on padding.
    """
    values = values * mask
    advantages = torch.zeros_like(rewards)
    following_advantage = following_value = torch.zeros_like(rewards[:, 0])
    for step in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, step] + gamma * following_value - values[:, step]
        following_advantage = (delta + gamma * gae_lambda * following_advantage) * mask[:, step]
        following_value = values[:, step]
        advantages[:, step] = following_advantage
    return advantages, (advantages + values) * mask


def kl_estimate(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Estimate KL(pi || reference) per token drawn from pi: exp(-d) - 1 + d with d = log pi - log ref.

    Non-negative and unbiased (Schulman, "Approximating KL divergence", k3).
    """
    difference = log_probs - reference
    return torch.exp(-difference) - 1 + difference


def kl_loss(log_probs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Return half the squared difference of log-probabilities per token drawn from pi; (B, T).

    In expectation over the samples its gradient is that of KL(pi || reference) (Schulman, "Approximating KL
    divergence", k2). Unlike a penalty in the reward it acts on answers that are all alike.
    """
    return 0.5 * (log_probs - reference) ** 2


def policy_loss(
    log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the clipped surrogate per token (Schulman et al., 2017, Eq. 7).

    Returns:
        ``(loss, ratio, clipped)``, each (B, T): max(-A * ratio, -A * clamp(ratio)), the ratio, and whether the clamp
        took effect.
    """
    ratio = torch.exp(log_probs - old_log_probs)
    unclipped = -advantages * ratio
    clamped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    return torch.maximum(unclipped, clamped), ratio, (clamped > unclipped).float()


def preference_loss(margins: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the loss of direct preference optimisation per pair (Rafailov et al., 2023, Eq. 7).

    Args:
        margins: (P, 2) log pi - log pi_ref of the better and of the worse answer, summed over tokens.
        beta: scale of the implied reward.

    Returns:
        (P,) -log sigmoid(beta * (better - worse)).
    """
    return -functional.logsigmoid(beta * (margins[:, 0] - margins[:, 1]))


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, clip: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return half the squared error per token; with ``clip`` the larger of it and that of the clipped move.

    Returns:
        ``(loss, clipped)``, each (B, T).
    """
    error = 0.5 * (values - returns) ** 2
    if clip is None:
        return error, torch.zeros_like(error)
    moved = old_values + (values - old_values).clamp(-clip, clip)
    clipped_error = 0.5 * (moved - returns) ** 2
    return torch.maximum(error, clipped_error), (clipped_error > error).float()


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return 1 - Var(returns - values) / Var(returns) over tokens; 1 is a perfect critic, 0 a constant one."""
    residual = returns - values
    spread = masked_mean((returns - masked_mean(returns, mask)) ** 2, mask)
    error = masked_mean((residual - masked_mean(residual, mask)) ** 2, mask)
    return 1 - error / spread.clamp(min=1e-12)
