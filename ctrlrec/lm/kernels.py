"""Log-probability and entropy kernels, from TRL if it has them.

TRL does not document these names, so they are imported here alone, and a test holds the fallback equal to them.
"""

import torch

try:
    from trl.trainer.utils import entropy_from_logits, selective_log_softmax
except ImportError:

    def selective_log_softmax(logits: torch.Tensor, index: torch.Tensor) -> torch.Tensor:  # type: ignore[misc]
        """Return log-probability of ``index`` (...) under ``logits`` (..., V)."""
        return torch.log_softmax(logits, dim=-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)

    def entropy_from_logits(logits: torch.Tensor) -> torch.Tensor:  # type: ignore[misc]
        """Return entropy in nats of each row of ``logits`` (..., V)."""
        log_probabilities = torch.log_softmax(logits, dim=-1)
        return -(log_probabilities.exp() * log_probabilities).sum(-1)


__all__ = ["entropy_from_logits", "selective_log_softmax"]
