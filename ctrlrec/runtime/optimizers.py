"""The form of Adam that a device has."""

from collections.abc import Iterable
from typing import Any

import torch


def fused(groups: Iterable[torch.Tensor] | Iterable[dict[str, Any]]) -> bool | None:
    """Return True if all weights lie on GPUs, where one kernel updates them; None otherwise, for torch's default.

    Args:
        groups: weights, or parameter groups of them.
    """
    weights = [weight for group in groups for weight in (group["params"] if isinstance(group, dict) else [group])]
    return all(weight.device.type == "cuda" for weight in weights) or None
