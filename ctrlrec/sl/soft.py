"""Soft labels: the teacher's scores of all items that are allowed at a place of a list (spec section 6)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctrlrec.controls.instruction import Example
from ctrlrec.controls.registry import SEARCH
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.lm.indexing import ItemTokens
from ctrlrec.teacher.ranker import Ranker


@dataclass(frozen=True, slots=True)
class SoftList:
    """The soft labels of one list.

    Attributes:
        places: (P,) indices of response tokens, each an item.
        scores: (n_items,) logarithms of the teacher's distribution, up to a constant.
        allowed: (P, n_items) bool, the items allowed at each place; the label is one of them.
    """

    places: list[int]
    scores: torch.Tensor
    allowed: torch.Tensor


class SoftLabels:
    """Gives examples their soft labels.

    Args:
        catalogue: membership.
        ranker: the teacher.
        items: the tokens of items.
        temperature: ``sl.soft_labels``.
    """

    def __init__(self, catalogue: Catalogue, ranker: Ranker, items: ItemTokens, temperature: float):
        self.catalogue, self.ranker, self.items, self.temperature = catalogue, ranker, items, temperature

    def __call__(self, examples: Sequence[Example], responses: Sequence[Sequence[int]]) -> list[SoftList | None]:
        """Return the soft labels of each example; None if it has no list.

        Args:
            examples: B examples.
            responses: B rows of response ids, in which items are tokens. A row may be cut.
        """
        asked = [row for row, example in enumerate(examples) if example.instruction.history and example.labels]
        found: list[SoftList | None] = [None] * len(examples)
        scored: dict[int, torch.Tensor] = {}
        for begin in range(0, len(asked), self.ranker.at_once):
            part = asked[begin : begin + self.ranker.at_once]
            scores = self.ranker.scores([examples[row].instruction.history for row in part]).cpu() / self.temperature
            scored |= zip(part, scores.float(), strict=True)
        for row, (example, response) in enumerate(zip(examples, responses, strict=True)):
            if row in scored or example.instruction.task == SEARCH:
                uniform = torch.zeros(len(self.catalogue))
                found[row] = self._soft(example, response, scored.get(row, uniform))
        return found

    def _soft(self, example: Example, response: Sequence[int], scores: torch.Tensor) -> SoftList:
        asked, labels = example.instruction, example.labels
        spelt = [place for place, token in enumerate(response) if self.items.item(token) is not None]
        # The ground truth keeps its hard label; search has none.
        soft = [place for place, item in enumerate(labels[: len(spelt)]) if item != asked.target]
        base = np.isfinite(scores.numpy())  # the teacher excludes the history
        base[list(asked.history)] = False  # also what is older than the items that it reads
        if asked.candidates is not None:
            offered = np.zeros_like(base)
            offered[list(asked.candidates)] = True
            base &= offered
        inside = self.catalogue.membership[self._categories(example)]
        allowed = np.zeros((len(soft), len(base)), dtype=bool)
        for row, place in enumerate(soft):
            same_side = (inside == inside[:, labels[place], None]).all(axis=0)
            allowed[row] = base & same_side
            allowed[row, list(labels[:place])] = False
        return SoftList([spelt[place] for place in soft], scores, torch.from_numpy(allowed))

    def _categories(self, example: Example) -> list[int]:
        """Return the rows of membership whose sides count: of every condition, and of what a search is about."""
        asked = example.instruction
        names = {condition.category for condition in asked.conditions}
        names |= {asked.category} if asked.category is not None else set()
        return [self.catalogue.category_index[name] for name in sorted(names)]


@dataclass(frozen=True, slots=True)
class SoftBatch:
    """The soft labels of a micro-batch.

    Attributes:
        at: (B, L) number of the soft label that stands for a token of ``labels``; -1 if the hard one counts.
        scores: (S, n_items) of each list.
        lists: (P,) the list of each soft label.
        allowed: (P, n_items) bool.
    """

    at: torch.Tensor
    scores: torch.Tensor
    lists: torch.Tensor
    allowed: torch.Tensor

    def to(self, device: torch.device) -> "SoftBatch":
        """Return the same on a device."""
        return SoftBatch(*(part.to(device) for part in (self.at, self.scores, self.lists, self.allowed)))


def soft_loss(
    log_probs: torch.Tensor, scores: torch.Tensor, allowed: torch.Tensor, allowed_weight: float
) -> torch.Tensor:
    """Return the summed loss of soft labels (spec section 6).

    A place costs the cross-entropy to the teacher's softmax over the allowed items A, and ``allowed_weight`` times -log
    of the probability that the model gives to A.

    Args:
        log_probs: (P, n_items) the model's log-probability of each item's token, over its whole vocabulary.
        scores: (P, n_items) the teacher's, divided by the temperature.
        allowed: (P, n_items) bool, at least one in each row.
        allowed_weight: of the second part.
    """
    wanted = torch.softmax(scores.masked_fill(~allowed, -torch.inf), dim=-1)
    loss = -(wanted * log_probs.masked_fill(~allowed, 0.0)).sum()
    if allowed_weight:
        loss = loss - allowed_weight * log_probs.masked_fill(~allowed, -torch.inf).logsumexp(-1).sum()
    return loss
