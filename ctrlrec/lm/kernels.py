"""Log-probability and entropy kernels, from TRL if it has them.

TRL does not document these names, so they are imported here alone, and a test holds the fallback equal to them.
"""

from contextlib import suppress
from typing import Any

import torch

ChunkedLogProbFunction: Any = None  # of TRL; without it chunks of tokens are computed again in the backward pass
TOKENS_AT_ONCE = 4096  # of that kernel

with suppress(ImportError):
    from trl.kernels import ChunkedLogProbFunction  # type: ignore[no-redef]
    from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE as TOKENS_AT_ONCE

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


__all__ = ["TOKENS_AT_ONCE", "ChunkedLogProbFunction", "entropy_from_logits", "selective_log_softmax"]
