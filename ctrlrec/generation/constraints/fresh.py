"""Titles of the catalogue, each at most once and none of the history."""

from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.generation.lists.constraint import ListConstraint


class Fresh(ListConstraint):
    """k different titles that exist and are not shown in the history."""

    def conditions(self, instruction: Instruction) -> tuple[Condition, ...]:
        """Return nothing: what is asked of categories is left to the model."""
        return ()


CONSTRAINT = Fresh
