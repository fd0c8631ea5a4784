"""Advantages from comparing the answers to one prompt, as pure tensor functions (spec section 13).

Rows are answers, B of them; ``group`` (B,) numbers their prompts. ``counted`` is 1 if a value enters the statistics
of its group and 0 if it is only compared with them: greedy answers, and steps that an answer never reached.
"""

import torch

_SMALL = 1e-4  # added to a standard deviation, as in TRL's GRPOTrainer


def group_moments(
    values: torch.Tensor, counted: torch.Tensor, group: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean, standard deviation and number of the counted values in each value's group and column.

    Args:
        values: (B, S).
        counted: (B, S).
        group: (B,).

    Returns:
        Three (B, S) tensors, double. The deviation divides by n - 1. It and the mean are 0 if nothing can be said.
    """
    together = (group[:, None] == group).double()
    values, counted = values.double(), counted.double()
    count = together @ counted
    mean = together @ (values * counted) / count.clamp(min=1)
    squares = together @ ((values - mean) ** 2 * counted)
    return mean, (squares / (count - 1).clamp(min=1)).sqrt(), count


def standardised(
    values: torch.Tensor, counted: torch.Tensor, group: torch.Tensor, pooled: bool = False
) -> torch.Tensor:
    """Return (value - mean) / deviation of its group (GRPO, Shao et al., 2024, Section 4.1.2).

    Counted values that are all alike give 0, and so does a group with fewer than two of them. A value that is not
    counted is divided by the deviation of all groups together if that is larger: beside counted values that are all
    alike it would otherwise outweigh everything.

    Args:
        values: (B, S).
        counted: (B, S).
        group: (B,).
        pooled: divide by one deviation for all, the root of the mean squared difference of counted values to the mean
            of their group. A group of almost equal answers then weighs almost nothing (Liu et al., 2025, "Understanding
            R1-Zero-like training", on the bias of dividing by each group's own).

    Returns:
        (B, S).
    """
    mean, own, count = group_moments(values, counted, group)
    compared = counted * (count > 1)
    together = (((values - mean) ** 2 * compared).sum() / compared.sum().clamp(min=1)).sqrt()
    deviation = together.expand_as(own) if pooled else torch.where(counted > 0, own, own.maximum(together))
    return ((values - mean) / (deviation + _SMALL) * (count > 1) * (deviation > 0)).to(values.dtype)


def less_the_others(values: torch.Tensor, counted: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """Return each value less the mean of the other counted values of its group (RLOO, Ahmadian et al., 2024, Eq. 9).

    A value that is not counted is compared with all that are. A value without others gives 0.

    Args:
        values: (B, S).
        counted: (B, S).
        group: (B,).

    Returns:
        (B, S).
    """
    mean, _, count = group_moments(values, counted, group)
    others = count - counted
    # The mean of the others is (n * mean - value) / (n - 1); the difference to it is (value - mean) * n / (n - 1).
    return ((values - mean) * count / others.clamp(min=1) * (others > 0)).to(values.dtype)


def extremes(totals: torch.Tensor, counted: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """Return the rows of the best and of the worst counted answer to each prompt, the first among equals.

    Args:
        totals: (B, 1) rewards of answers.
        counted: (B, 1).
        group: (B,).

    Returns:
        (G, 2) row numbers; the same one twice if all answers to a prompt are worth the same.
    """
    pairs = []
    for prompt in group.unique():
        rows = torch.nonzero((group == prompt) & counted[:, 0].bool())[:, 0]
        worth = totals[rows, 0]
        pairs.append(torch.stack([rows[worth.argmax()], rows[worth.argmin()]]))
    return torch.stack(pairs)


def returns_by_step(
    rewards: torch.Tensor, mask: torch.Tensor, step: torch.Tensor, gamma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the discounted rewards from each step of an answer on.

    G_j = r_j + gamma * G_(j+1), r_j the sum of the rewards on the tokens of step j. A step is one item; the discount
    counts items and not tokens, so that long titles do not make the end of a list worth less.

    Args:
        rewards: (B, T).
        mask: (B, T) 1 on generated tokens.
        step: (B, T) number of each token's step.
        gamma: discount from one step to the next.

    Returns:
        ``(returns, reached)``, both (B, S); S is the largest number of steps. ``reached`` is 1 if an answer has
        the step.
    """
    steps = int(step.max()) + 1
    earned = rewards.new_zeros(len(rewards), steps).scatter_add(1, step, rewards * mask)
    reached = rewards.new_zeros(len(rewards), steps).scatter_reduce(1, step, mask.to(rewards.dtype), "amax")
    following = torch.zeros_like(earned[:, 0])
    returns = []
    for column in earned.flip(1).unbind(1):
        following = column + gamma * following
        returns.append(following)
    return torch.stack(returns[::-1], 1), reached
