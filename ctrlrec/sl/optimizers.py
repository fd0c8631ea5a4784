"""Optimisers of SL (``sl.optimizer``)."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch

from ctrlrec.runtime.optimizers import fused

# Of the quintic iteration that moves all singular values towards 1 (Jordan et al., 2024).
_QUINTIC, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
_MOMENTUM = 0.95


class Muon(torch.optim.Adam):
    """Muon for the matrices inside a model, Adam for all other weights (Jordan et al., 2024).

    A matrix moves along its momentum with all singular values set to about 1. Matrices of one shape are treated
    together, in float32: on a CPU torch's own Muon, one matrix at a time in bfloat16, takes longer than the model.

    Args:
        matrices: weights of two dimensions.
        others: all other weights.
        learning_rate: of the others.
        matrix_learning_rate: of the matrices.
    """

    def __init__(
        self,
        matrices: Sequence[torch.Tensor],
        others: Sequence[torch.Tensor],
        learning_rate: float,
        matrix_learning_rate: float,
    ):
        groups: list[dict[str, Any]] = [
            {"params": list(others), "orthogonal": False},
            {"params": list(matrices), "orthogonal": True, "lr": matrix_learning_rate},
        ]
        super().__init__([group for group in groups if group["params"]], lr=learning_rate, fused=fused(groups))

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move all weights that have a gradient."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group["orthogonal"]:
                self._move(group)
        return loss

    def _move(self, group: dict[str, Any]) -> None:
        shapes: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is not None:
                shapes[weight.shape].append(weight)
        for (height, width), weights in shapes.items():
            for weight in weights:
                if not self.state[weight]:  # a loaded state needs a step of every weight, which Adam alone reads
                    self.state[weight] = {"step": torch.tensor(0.0), "momentum": torch.zeros_like(weight)}
            gradients = torch.stack([weight.grad for weight in weights])  # type: ignore[misc]
            momenta = torch.stack([self.state[weight]["momentum"] for weight in weights])
            momenta.lerp_(gradients, 1 - _MOMENTUM)
            moves = orthogonal(gradients.lerp_(momenta, _MOMENTUM)) * max(1, height / width) ** 0.5
            for weight, momentum, move in zip(weights, momenta, moves, strict=True):
                self.state[weight]["momentum"].copy_(momentum)
                weight.add_(move, alpha=-group["lr"])


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Return matrices (N, h, w) with the same singular vectors and singular values between about 0.7 and 1.2."""
    first, second, third = _QUINTIC
    wide = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = wide.shape[1] > wide.shape[2]
    if tall:
        wide = wide.mT
    for _ in range(_ITERATIONS):
        gram = wide @ wide.mT
        factor = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        wide = torch.baddbmm(wide, factor, wide, beta=first)
    return wide.mT if tall else wide
