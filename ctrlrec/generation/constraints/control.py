"""Fresh titles with which the list meets what is asked."""

from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.generation.lists.constraint import ListConstraint


class Controlled(ListConstraint):
    """k fresh titles, such that at every place the list can still meet all conditions of the instruction exactly.

    Search has no condition in its instruction and is only kept fresh.
    """

    def conditions(self, instruction: Instruction) -> tuple[Condition, ...]:
        """Return the conditions of the instruction."""
        return instruction.conditions


CONSTRAINT = Controlled
