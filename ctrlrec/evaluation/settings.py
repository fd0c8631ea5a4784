"""The seven evaluation settings (spec section 7) as questions to a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctrlrec.config.schema import EvaluationConfig
from ctrlrec.controls.instruction import Instruction, Task

if TYPE_CHECKING:
    from ctrlrec.instructions.builder import InstructionBuilder

_SAMPLE_SEED = 20240712  # of the user sample: one for all runs, so that rows and seeds are compared on the same users


@dataclass(frozen=True, slots=True)
class Setting:
    """A column group of Tables 2 to 5: what is asked and with which proportion."""

    task: Task
    proportion: int | None = None


SETTINGS: Mapping[str, Setting] = {
    "sequential": Setting(Task.SEQUENTIAL),
    "category_positive": Setting(Task.CATEGORY_POSITIVE),
    "category_negative": Setting(Task.CATEGORY_NEGATIVE),
    "at_most_20": Setting(Task.PROPORTION_AT_MOST, 20),
    "about_30": Setting(Task.PROPORTION_ABOUT, 30),
    "at_least_30": Setting(Task.PROPORTION_AT_LEAST, 30),
    "formatting": Setting(Task.SEQUENTIAL),
}


def test_users(count: int | None, total: int) -> list[int]:
    """Positions of the users asked: all, or a fixed random sample, in ascending order."""
    if count is None or count >= total:
        return list(range(total))
    return sorted(np.random.default_rng(_SAMPLE_SEED).permutation(total)[:count].tolist())


def questions(
    name: str,
    builder: "InstructionBuilder",
    config: EvaluationConfig,
    suffix: str | None,
    first_users: int | None = None,
) -> list[Instruction]:
    """The questions of one setting, the same for every row of a table.

    A user whose target has every category of the teacher's list is not asked the negative ones.

    Args:
        name: of the setting.
        builder: catalogue, sequences and teacher.
        config: users and list lengths.
        suffix: appended to every prompt; for models that were not trained to answer with a bare list.
        first_users: only so many of these users are asked, the first; for models whose answers cost money.
    """
    setting = SETTINGS[name]
    drafts = []
    for user in test_users(config.users, len(builder.sequences))[:first_users]:
        item_count = config.item_count
        if name == "formatting":
            item_count = int(np.random.default_rng([_SAMPLE_SEED, user]).choice(config.formatting_item_counts))
        question = (setting.task, user, item_count, setting.proportion, suffix or "", config.selection)
        drafts.append(builder.question(*question))
    return [example.instruction for example in builder.complete(drafts)]
