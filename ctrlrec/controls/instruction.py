"""What can be asked for, as frozen types shared by training, rewards and evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctrlrec.controls.base import Control
from ctrlrec.controls.registry import CONTROLS, control_of, kind_of
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError

# Conversations as (role, text); the roles are those of chat templates: system, user, assistant.
Messages = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """A control with what it is about: one wish of an instruction.

    Attributes:
        control: the kind of wish.
        category: what it is about.
        proportion: m in percent; None for a control without one.
    """

    control: Control
    category: str
    proportion: int | None

    @classmethod
    def read(cls, constraint: Mapping[str, Any]) -> "Condition":
        """Return the condition of an entry of ``constraints`` in the files of spec section 12.

        Raises:
            CtrlRecError: for an entry that is none.
        """
        try:
            return cls(CONTROLS[constraint["kind"]], constraint["category"], constraint["proportion"])
        except (KeyError, TypeError):
            raise CtrlRecError(
                f"{constraint!r} is no constraint: expected kind, category and proportion, the kind one of "
                f"{', '.join(CONTROLS)}"
            ) from None

    def record(self) -> dict[str, object]:
        """Return the entry of ``constraints`` in the files of spec section 12."""
        return {"kind": kind_of(self.control), "category": self.category, "proportion": self.proportion}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One request as a model sees it.

    Attributes:
        task: the kind of instruction (spec section 1).
        user: source id of the user; None for search and chat.
        history: catalogue indices shown in the prompt, oldest first.
        target: catalogue index of the item the user really took next; None for search and chat.
        item_count: k, the number of items asked for; 0 for chat.
        category: the category asked for or against; None for a blend.
        proportion: m in percent, for the proportion tasks.
        candidates: catalogue indices to select from; None in the free form.
        messages: the conversation up to the answer; its last turn is the user's.
        blend: the wishes of a blend, in the order of its words; empty for every other task.
    """

    task: str
    user: str | None
    history: tuple[int, ...]
    target: int | None
    item_count: int
    category: str | None
    proportion: int | None
    candidates: tuple[int, ...] | None
    messages: Messages
    blend: tuple[Condition, ...] = ()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The wishes that an answer has to meet; none for I0, search and chat."""
        if self.blend:
            return self.blend
        control = control_of(self.task)
        if control is None or self.category is None:
            return ()
        return (Condition(control, self.category, self.proportion),)

    @property
    def prompt(self) -> str:
        """The text of the last user turn."""
        return self.messages[-1][1]

    def record(self, catalogue: Catalogue) -> dict[str, object]:
        """Return the fields of this instruction in the files of spec section 9, with titles instead of indices."""
        titles = catalogue.titles
        return {
            "task": self.task,
            "user": self.user,
            "history": [titles[item] for item in self.history],
            "target": None if self.target is None else titles[self.target],
            "item_count": self.item_count,
            "category": self.category,
            "proportion": self.proportion,
            "constraints": [condition.record() for condition in self.conditions],
            "candidates": None if self.candidates is None else [titles[item] for item in self.candidates],
            "prompt": self.prompt,
        }


@dataclass(frozen=True, slots=True)
class Example:
    """An instruction with the answer to learn.

    Attributes:
        instruction: what is asked.
        response: the text of the answer, without an end-of-sequence token.
        labels: catalogue indices of the answer's items; empty for chat.
        label_ranks: the teacher's 0-based rank of each label; None without a teacher.
    """

    instruction: Instruction
    response: str
    labels: tuple[int, ...]
    label_ranks: tuple[int | None, ...]

    def record(self, catalogue: Catalogue) -> dict[str, object]:
        """One line of ``instructions.jsonl``."""
        return self.instruction.record(catalogue) | {
            "response": self.response,
            "labels": [catalogue.titles[item] for item in self.labels],
            "label_ranks": list(self.label_ranks),
        }
