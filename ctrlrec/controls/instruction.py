"""What can be asked for, as frozen types shared by training, rewards and evaluation."""

from dataclasses import dataclass
from enum import StrEnum

from ctrlrec.data.catalogue import Catalogue


class Task(StrEnum):
    """The instruction kinds of Section 2.2.1; values are the names used in files and configuration."""

    SEQUENTIAL = "sequential"
    CATEGORY_POSITIVE = "category_positive"
    CATEGORY_NEGATIVE = "category_negative"
    PROPORTION_AT_MOST = "proportion_at_most"
    PROPORTION_AT_LEAST = "proportion_at_least"
    PROPORTION_ABOUT = "proportion_about"
    SEARCH = "search"
    CHAT = "chat"

    @property
    def family(self) -> str:
        """The name a variant lists in ``variant.tasks``: I0, I1, I2, I3 or I4."""
        return self.value.split("_")[0]


FAMILIES = tuple(dict.fromkeys(task.family for task in Task))
CATEGORY_TASKS = (Task.CATEGORY_POSITIVE, Task.CATEGORY_NEGATIVE)
PROPORTION_TASKS = (Task.PROPORTION_AT_MOST, Task.PROPORTION_AT_LEAST, Task.PROPORTION_ABOUT)

# Conversations as (role, text); the roles are those of chat templates: system, user, assistant.
Messages = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One request as a model sees it.

    Attributes:
        task: the kind of instruction.
        user: source id of the user; None for search and chat.
        history: catalogue indices shown in the prompt, oldest first.
        target: catalogue index of the item the user really took next; None for search and chat.
        item_count: k, the number of items asked for; 0 for chat.
        category: the category asked for or against.
        proportion: m in percent, for the proportion tasks.
        candidates: catalogue indices to select from; None in the free form.
        messages: the conversation up to the answer; its last turn is the user's.
    """

    task: Task
    user: str | None
    history: tuple[int, ...]
    target: int | None
    item_count: int
    category: str | None
    proportion: int | None
    candidates: tuple[int, ...] | None
    messages: Messages

    @property
    def prompt(self) -> str:
        """The text of the last user turn."""
        return self.messages[-1][1]

    def record(self, catalogue: Catalogue) -> dict[str, object]:
        """The fields of this instruction in the files of spec section 9, titles instead of indices."""
        titles = catalogue.titles
        return {
            "task": self.task.value,
            "user": self.user,
            "history": [titles[item] for item in self.history],
            "target": None if self.target is None else titles[self.target],
            "item_count": self.item_count,
            "category": self.category,
            "proportion": self.proportion,
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


def allowed_counts(task: Task, item_count: int, proportion: int) -> range:
    """Every number of in-category items, of ``item_count``, that obeys a proportion (Eq. 7), in exact integers."""
    demand = item_count * proportion  # in hundredths of an item
    if task == Task.PROPORTION_AT_MOST:
        return range(0, demand // 100 + 1)
    if task == Task.PROPORTION_AT_LEAST:
        return range(-(-demand // 100), item_count + 1)
    if task == Task.PROPORTION_ABOUT:
        return range(max(0, -((100 - demand) // 100)), min(item_count, (demand + 100) // 100) + 1)
    raise ValueError(f"{task} asks for no proportion")
