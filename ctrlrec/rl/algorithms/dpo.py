"""Direct preference optimisation (Rafailov et al., 2023) on pairs of the model's own answers; no critic."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ctrlrec.config.schema import bounded
from ctrlrec.rl import losses
from ctrlrec.rl.algorithms.base import Offline, Policy, Term

if TYPE_CHECKING:
    from ctrlrec.rl.experience import Experience


@dataclass
class DPOOptions:
    """Settings of direct preference optimisation."""

    beta: float = bounded(0)


class DPO(Offline):
    """The loss of TRL's DPOTrainer on the best and the worst of n answers to a prompt (spec section 13).

    Answers are sampled from the model after SL, which is also the reference, so that pairs are those of a fixed data
    set. Log-probabilities are taken at the temperature of sampling. A prompt whose answers are all worth the same gives
    no pair.
    """

    Options = DPOOptions
    options: DPOOptions
    together = 2

    def learnt(self, experience: "Experience") -> torch.Tensor:
        """Return the rows of the pairs, the better answer before the worse one."""
        pairs = self.extremes(experience)
        return pairs[pairs[:, 0] != pairs[:, 1]].flatten()

    def terms(self, policy: Policy, experience: "Experience", rows: torch.Tensor, actor: bool = True) -> Iterator[Term]:
        """Yield the loss of the pairs."""
        log_probs, _ = policy.log_probs(experience, rows)
        margins = ((log_probs - experience.reference[rows]) * experience.decided[rows]).sum(1).view(-1, 2)
        loss = losses.preference_loss(margins, self.options.beta)
        means = {
            "loss/policy": loss.detach(),
            "preference/accuracy": (margins[:, 0] > margins[:, 1]).float(),
            "preference/margin": self.options.beta * (margins[:, 0] - margins[:, 1]).detach(),
        }
        yield Term("preference loss", loss, means=means)


ALGORITHM = DPO
