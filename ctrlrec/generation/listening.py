"""Pass on every token of an answer as it is chosen, without changing the answer."""

from collections.abc import Callable
from typing import Any

from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.generation.constraints.base import Constraint, TokenIds
from ctrlrec.lm.chat_format import ChatFormat


class Listening(Constraint):
    """Allows what another constraint allows, everything without one, and passes on the tokens of one answer.

    Args:
        catalogue: titles and categories.
        chat_format: of the model.
        settings: the section ``constraint``.
        heard: called with each token of the answer but its end.
        constraint: what may be written; None for anything.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        chat_format: ChatFormat,
        settings: ConstraintConfig,
        heard: Callable[[int], None],
        constraint: Constraint | None,
    ):
        super().__init__(catalogue, chat_format, settings)
        # Of this instance, not of the class:
        self.restricts = constraint is not None  # type: ignore[misc]
        self.ends_itself = constraint is not None and constraint.ends_itself  # type: ignore[misc]
        self.heard, self.constraint = heard, constraint

    def start(self, instruction: Instruction) -> Any:
        """Return the state of the other constraint in a tuple: a free answer is followed too."""
        return (None if self.constraint is None else self.constraint.start(instruction),)

    def allowed(self, state: Any) -> TokenIds | None:
        """Return what the other constraint allows."""
        return None if self.constraint is None else self.constraint.choices(state[0])

    def advance(self, state: Any, token: int) -> Any:
        """Pass the token on and return the next state."""
        self.heard(token)
        if self.constraint is None or state[0] is None:
            return state
        return (self.constraint.advance(state[0], token),)
