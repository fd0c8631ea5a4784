"""The evaluation settings (spec sections 7 and 12) as questions to a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlrec.config.schema import EvaluationConfig
from ctrlrec.controls.base import Control
from ctrlrec.controls.instruction import Example
from ctrlrec.controls.registry import BLEND, SEQUENTIAL, control_of, controls

if TYPE_CHECKING:
    from ctrlrec.instructions.builder import InstructionBuilder

_SAMPLE_SEED = 20240712  # of the user sample: one for all runs, so that rows and seeds are compared on the same users


@dataclass(frozen=True, slots=True)
class Setting:
    """A column group of a table: what is asked.

    Attributes:
        task: kind of instruction.
        proportion: percent of the one condition that is asked.
        conditions: number of conditions of a blend; 0 for every other task.
        unseen: whether a blend's kinds are a pair that training never shows together.
    """

    task: str
    proportion: int | None = None
    conditions: int = 0
    unseen: bool = False

    @property
    def control(self) -> Control | None:
        """The control asked for; None for recommendation without one."""
        return control_of(self.task)


def settings() -> dict[str, Setting]:
    """Return every setting: I0, those of the registered controls in their order, formatting, and blends."""
    asked = {
        name: Setting(control.task, percent) for control in controls() for name, percent in control.settings.items()
    }
    blends = {
        "blend_2": Setting(BLEND, conditions=2),
        "blend_3": Setting(BLEND, conditions=3),
        "blend_unseen": Setting(BLEND, conditions=2, unseen=True),
    }
    return {"sequential": Setting(SEQUENTIAL), **asked, "formatting": Setting(SEQUENTIAL), **blends}


SETTINGS: Mapping[str, Setting] = settings()


def question_of(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a line of ``predictions.jsonl`` asks, whatever its words."""
    asked = tuple(record[name] for name in ("target", "item_count", "category", "proportion"))
    return (*asked, record["constraints"]) if SETTINGS[record["setting"]].conditions else asked


def test_users(count: int | None, everyone: np.ndarray) -> list[int]:
    """Return the positions of the users asked: all who have a test item, or a fixed random sample, ascending.

    A smaller sample is part of a larger one.
    """
    if count is None or count >= len(everyone):
        return everyone.tolist()
    return sorted(np.random.default_rng(_SAMPLE_SEED).permutation(everyone)[:count].tolist())


def questions(
    name: str,
    builder: "InstructionBuilder",
    config: EvaluationConfig,
    suffix: str | None,
    first_users: int | None = None,
) -> list[Example]:
    """Return the questions of one setting, the same for every row of a table, with the answers the method labels them.

    A user whose target has every category of the teacher's list is not asked the negative ones, nor one for whom no
    blend was found. A blend's labels are the best list that meets all its conditions.

    Args:
        name: of the setting.
        builder: catalogue, sequences and teacher.
        config: users and list lengths.
        suffix: appended to every prompt; for models that were not trained to answer with a bare list.
        first_users: only this many of these users are asked, from the first; for models whose answers cost money.
    """
    setting = SETTINGS[name]
    drafts = []
    for user in test_users(config.users, builder.sequences.tested)[:first_users]:
        item_count = config.item_count
        if name == "formatting":
            item_count = int(np.random.default_rng([_SAMPLE_SEED, user]).choice(config.formatting_item_counts))
        if setting.conditions:
            blend = (user, item_count, setting.conditions, setting.unseen, suffix or "")
            drafts.append(builder.blended_question(*blend))
            continue
        question = (setting.task, user, item_count, setting.proportion, suffix or "", config.selection)
        drafts.append(builder.question(*question))
    return builder.complete(drafts)
