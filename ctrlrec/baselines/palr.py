"""The row ``palr``: *PALR: Personalization Aware LLMs for Recommendation* (Chen, 2023), labels from behaviour alone.

From its paper: the prompt shows the history as titles, the answer to learn is what the user really took next, and there
are two kinds of instruction, one that recommends freely and one that selects from retrieved candidates. No teacher
ranks a label.

What differs from its paper: both kinds are worded as Listing 1, so that this row is asked what every other row is
asked; candidates are the labels among random items instead of those of a retrieval model; there is no profile of the
user in keywords, which its paper has a large model write; the backbone is that of the table.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ctrlrec.controls.instruction import Example
from ctrlrec.controls.registry import SEQUENTIAL
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.instructions.drafts import Draft
from ctrlrec.instructions.labels import Demand


class PALRInstructions(InstructionBuilder):
    """I0 alone; the labels are the next k interactions."""

    def epoch(self, epoch: int, families: Collection[str]) -> list[Example]:
        """Return one sample a user; users take turns with the two kinds of instruction.

        Args:
            epoch: from 0.
            families: nothing is built unless sequential is among them.
        """
        if SEQUENTIAL not in families:
            return []
        return [self._next_items(epoch, user, (place + epoch) % 2 == 1) for place, user in enumerate(self.users)]

    def _next_items(self, epoch: int, user: int, selects: bool) -> Example:
        """Draw a window as the other rows do; k is at most the rest of the training prefix."""
        draft = self._window(epoch, user, SEQUENTIAL)
        items = self.sequences.train(user)
        begin = int(np.flatnonzero(items == draft.target)[0])  # an item occurs once in a sequence
        labels = tuple(items[begin : begin + draft.item_count].tolist())
        return self._labelled(replace(draft, selects=selects), labels)

    def validation(self) -> list[Example]:
        """Return the validation items of a fixed sample of users; the test item follows, so k is 1."""
        return [self._labelled(draft, (draft.target,)) for draft in self._validation_drafts([(SEQUENTIAL, None)])]

    def _labelled(self, draft: Draft, labels: tuple[int, ...]) -> Example:
        return self._example(draft, Demand(len(labels), None, 0, True), labels, (None,) * len(labels))
