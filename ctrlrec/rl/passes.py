"""Forward passes of actor, reference and critic over the answers of an iteration."""

from functools import partial

import pytorch_lightning as pl
import torch
from peft import PeftModel

from ctrlrec.lm.adapters import ACTOR, CRITIC, using
from ctrlrec.lm.head import log_probs_and_entropy
from ctrlrec.lm.scoring import hidden_states
from ctrlrec.rl.experience import Experience


class ForwardPasses(pl.LightningModule):
    """The passes that scoring and learning are made of.

    Attributes:
        model: one frozen base with an adapter for the actor and, for some algorithms, for the critic.
        value_head: of the critic; None without one.
        temperature: of sampling in this iteration; all log-probabilities are taken at it.
        chunked_head: whether the scores of few tokens exist at a time.
    """

    model: PeftModel
    value_head: torch.nn.Linear | None
    temperature: float
    chunked_head: bool = False

    def log_probs(
        self, experience: Experience, rows: torch.Tensor, adapter: str | None = ACTOR
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-probability of each generated token and the entropy at its place; both (b, T).

        Args:
            experience: holds the tokens.
            rows: (b,) row numbers.
            adapter: the actor, or None for the reference.

        Returns:
            Both at the temperature of the iteration, among the tokens that were allowed; zero on padding.
        """
        with using(self.model, adapter):
            hidden = self._states(experience, rows)
            mask = experience.mask[rows].bool()
            restrict = None if experience.support is None else partial(experience.support.restrict, rows)
            log_probs = torch.zeros_like(experience.mask[rows])
            entropy = torch.zeros_like(log_probs)
            log_probs[mask], entropy[mask] = log_probs_and_entropy(  # the head on real tokens alone
                self.model, hidden[mask], experience.actions[rows][mask], self.temperature, restrict, self.chunked_head
            )
            return log_probs, entropy

    def values(self, experience: Experience, rows: torch.Tensor) -> torch.Tensor:
        """Return the value of the state before each generated token; (b, T), zero on padding."""
        assert self.value_head is not None
        with using(self.model, CRITIC):
            hidden = self._states(experience, rows)
            # Returns of some tens would be rounded to quarters in bfloat16.
            with torch.autocast(hidden.device.type, enabled=False):
                return self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1) * experience.mask[rows]

    def _states(self, experience: Experience, rows: torch.Tensor) -> torch.Tensor:
        """Return the hidden states that predict the generated tokens, (b, T, H): those one place before them."""
        longest = int(experience.lengths[rows].max())
        hidden = hidden_states(self.model, experience.ids[rows, :longest])
        before = experience.before[rows].clamp(max=longest - 1)  # what lies after an answer is masked
        return hidden.take_along_dim(before[..., None], dim=1)


def value_head(model: PeftModel) -> torch.nn.Linear:
    """Return a layer from hidden states to a value, close to zero at first."""
    width = int(model.get_base_model().config.hidden_size)  # type: ignore[union-attr,arg-type]
    head = torch.nn.Linear(width, 1)
    torch.nn.init.normal_(head.weight, std=1 / (width + 1))
    torch.nn.init.zeros_(head.bias)
    return head
