"""Fine-tuning on the best of n sampled answers to each prompt, also called rejection sampling; no critic."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ctrlrec.rl.algorithms.base import Offline, Policy, Term

if TYPE_CHECKING:
    from ctrlrec.rl.experience import Experience


class BestOfN(Offline):
    """The cross-entropy of the best of n answers, which the model after SL samples.

    Log-probabilities are taken at the temperature of sampling.
    """

    def learnt(self, experience: "Experience") -> torch.Tensor:
        """Return the row of the best answer to each prompt."""
        return self.extremes(experience)[:, 0]

    def terms(self, policy: Policy, experience: "Experience", rows: torch.Tensor, actor: bool = True) -> Iterator[Term]:
        """Yield the negative log-likelihood."""
        log_probs, entropy = policy.log_probs(experience, rows)
        yield Term(
            "likelihood loss",
            -log_probs,
            means={"loss/policy": -log_probs.detach(), "policy/entropy": entropy.detach()},
        )


ALGORITHM = BestOfN
