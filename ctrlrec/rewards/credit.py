"""Where rewards go: an item's on the last token of its line, the rest on the last token of the answer."""

from collections.abc import Sequence

import torch


def place(
    at_items: Sequence[Sequence[float]], at_end: Sequence[float], reward_at: Sequence[Sequence[int]], length: int
) -> torch.Tensor:
    """Return the per-token rewards of a batch (Section 2.3).

    Args:
        at_items: B lists of what each item earns, weighted.
        at_end: B values of what the end of each answer earns, weighted.
        reward_at: B lists of generated-token indices: one per item, then that of the end.
        length: T, tokens of the longest answer.

    Returns:
        (B, T) float tensor; rewards that fall on one token add up.
    """
    rewards = torch.zeros(len(at_end), length)
    for row, (items, end, places) in enumerate(zip(at_items, at_end, reward_at, strict=True)):
        for value, position in zip(items, places[:-1], strict=True):
            rewards[row, position] += value
        rewards[row, places[-1]] += end
    return rewards


class PlacedScore(float):
    """The reward of an answer that carries which generated token earned what.

    Attributes:
        placed: pairs of a generated-token index and what it earns; the end of the answer is the last.
    """

    placed: list[tuple[int, float]]

    def __new__(cls, value: float, placed: Sequence[tuple[int, float]]) -> "PlacedScore":
        """Return a number with places."""
        score = super().__new__(cls, value)
        score.placed = list(placed)
        return score

    def __getnewargs__(self) -> tuple[float, list[tuple[int, float]]]:  # type: ignore[override]
        """Return what makes it again in another process."""
        return float(self), self.placed
