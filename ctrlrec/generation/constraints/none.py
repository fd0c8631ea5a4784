"""No constraint: the model writes what it likes (the paper)."""

from typing import Any

from ctrlrec.controls.instruction import Instruction
from ctrlrec.generation.constraints.base import Constraint


class Unconstrained(Constraint):
    """Allows every token everywhere."""

    restricts = False

    def start(self, instruction: Instruction) -> Any:
        """Return None: the answer is free."""

    def allowed(self, state: Any) -> None:
        """Return None: every token is allowed."""

    def advance(self, state: Any, token: int) -> Any:
        """Return the same state."""
        return state


CONSTRAINT = Unconstrained
