"""The tensors of one iteration of RL."""

from collections.abc import Sequence

import torch

from ctrlrec.generation.constraints.base import Constraint, support
from ctrlrec.lm.footprint import fitting
from ctrlrec.lm.scoring import pad
from ctrlrec.rl.rollout import Answer
from ctrlrec.runtime import processes


class Experience:
    """The tensors of one iteration; rows are answers, columns generated tokens.

    Attributes:
        ids: (B, L) prompts with their answers right after, padded on the right.
        lengths: (B,) tokens of each row.
        before: (B, T) place in ``ids`` of the token before each generated one, which predicts it.
        actions: (B, T) generated ids.
        mask: (B, T) 1 on generated tokens.
        support: what a constraint allowed at each token; None if everything was.
        decided: (B, T) 1 on generated tokens that were not the only one allowed; forced tokens teach nothing.
        drawn_rows: (B, 1) 1 on sampled answers; 0 on all others, which are not samples of the policy.
        drawn: (B, T) 1 on the decided tokens of sampled answers.
        group: (B,) number of the prompt; answers to one prompt share it.
        task: (B,) number of the kind of instruction.
        step: (B, T) number of the item that a token writes, from 0; the end of the answer is a step of its own.
        sampled: (B, T) log-probabilities as the decoder computed them; 0 on all other answers.
        rewards: (B, T) rule rewards on tokens, weighted.
        log_probs: (B, T) of the policy that sampled; likewise ``reference``, ``values``, ``advantages``, ``returns``.
    """

    def __init__(
        self, answers: Sequence[Answer], padding: int, device: torch.device, constraint: Constraint | None = None
    ):
        ids, attention = pad([answer.prompt + answer.tokens for answer in answers], padding)
        actions, mask = pad([answer.tokens for answer in answers], padding)
        starts = torch.tensor([len(answer.prompt) for answer in answers])
        self.ids, self.lengths = ids.to(device), attention.sum(1).to(device)
        self.before = (starts[:, None] - 1 + torch.arange(mask.shape[1])).to(device)
        self.actions, self.mask = actions.to(device), mask.float().to(device)
        sampled_rows = torch.tensor([answer.sampled for answer in answers], device=device)
        asked = [answer.judgement.instruction for answer in answers]
        self.support = support(constraint, asked, [answer.tokens for answer in answers])
        self.decided = self.mask if self.support is None else self.mask * ~self.support.forced.to(device)
        self.drawn_rows = sampled_rows[:, None].float()
        self.drawn = self.decided * self.drawn_rows
        self.group = _numbered(asked).to(device)
        self.task = _numbered([instruction.task for instruction in asked]).to(device)
        self.step = torch.zeros_like(actions)
        for row, answer in enumerate(answers):
            for end in answer.reward_at[:-1]:
                self.step[row, end + 1 :] += 1
        self.step = self.step.to(device)
        sampled = torch.tensor([value for answer in answers for value in answer.log_probs], device=device)
        self.sampled = torch.zeros_like(self.mask).masked_scatter(self.mask.bool(), sampled)
        self.log_probs, self.reference, self.rewards, self.values, self.advantages, self.returns = torch.zeros(
            6, *self.mask.shape, device=device
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors by name."""
        return {name: part for name, part in vars(self).items() if isinstance(part, torch.Tensor)}

    def micro_batches(
        self, rows: torch.Tensor, size: int, together: int = 1, tokens: int | None = None
    ) -> list[torch.Tensor]:
        """Return this process's share of the row numbers, in groups of similar length to save padding.

        Args:
            rows: (b,).
            size: most rows of a group, except units that are larger; unless ``tokens`` is given.
            together: rows of a unit, which lie side by side and stay in one group.
            tokens: most tokens of a group, padding included; a larger unit is a group of its own.
        """
        units = rows.view(-1, together)
        mine = processes.share(units[self.lengths[units].amax(1).argsort(stable=True)])
        if not len(mine):
            return []
        if tokens is None:
            return [part.flatten() for part in mine.split(max(1, size // together))]
        sizes = fitting((together * self.lengths[mine].amax(1)).tolist(), tokens)
        return [part.flatten() for part in mine.split(sizes)]


def _numbered(values: Sequence[object]) -> torch.Tensor:
    """Return for each value the number of its first place among the distinct ones; (len,) long."""
    places: dict[object, int] = {}
    return torch.tensor([places.setdefault(value, len(places)) for value in values])
