"""Instructions as frozen types, shared by training, rewards and evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctrlrec.controls.base import Control
from ctrlrec.controls.registry import BLEND, CONTROLS, control_of, kind_of
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
            CtrlRecError: for an entry that is not a constraint.
        """
        try:
            return cls(CONTROLS[constraint["kind"]], constraint["category"], constraint["proportion"])
        except (KeyError, TypeError):
            raise CtrlRecError(
                f"{constraint!r} is not a constraint: expected kind, category and proportion, the kind one of "
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

    @classmethod
    def read(cls, record: Mapping[str, Any], catalogue: Catalogue) -> "Instruction":
        """Return the instruction of a line of the files of spec section 9: the reverse of :meth:`record`.

        A conversation is not in those files, so ``messages`` holds the last user turn alone.

        Raises:
            CtrlRecError: for a missing field, an unknown task, or a title or category that the catalogue does not have.
        """
        try:
            index, offered, target = catalogue.title_index, record["candidates"], record["target"]
            task, category, user = record["task"], record["category"], record["user"]
            blend = tuple(map(Condition.read, record["constraints"])) if task == BLEND else ()
            instruction = cls(
                task,
                None if user is None else str(user),
                tuple(index[title] for title in record["history"]),
                None if target is None else index[target],
                int(record["item_count"]),
                category,
                record["proportion"],
                None if offered is None else tuple(index[title] for title in offered),
                (("user", record.get("prompt", "")),),
                blend,
            )
            for condition in instruction.conditions:
                catalogue.category_index[condition.category]
        except KeyError as error:
            raise CtrlRecError(
                f"instruction of task {record.get('task')!r}: there is no {error}, neither as a field nor in the "
                "catalogue; give the catalogue of the data that it was made from"
            ) from None
        return instruction

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
        """Return one line of ``instructions.jsonl``."""
        return self.instruction.record(catalogue) | {
            "response": self.response,
            "labels": [catalogue.titles[item] for item in self.labels],
            "label_ranks": list(self.label_ranks),
        }
