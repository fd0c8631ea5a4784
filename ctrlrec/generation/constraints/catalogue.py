"""Titles of the catalogue, of the candidates if there are any."""

from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.generation.lists.constraint import ListConstraint


class InCatalogue(ListConstraint):
    """k titles that exist; they may repeat and may be of the history."""

    repeats = True

    def conditions(self, instruction: Instruction) -> tuple[Condition, ...]:
        """Return nothing: existing is all."""
        return ()


CONSTRAINT = InCatalogue
