"""The seven evaluation settings (spec section 7) as questions to a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctrlrec.config.schema import EvaluationConfig
from ctrlrec.controls.base import Control
from ctrlrec.controls.instruction import Instruction
from ctrlrec.controls.registry import SEQUENTIAL, control_of, controls

if TYPE_CHECKING:
    from ctrlrec.instructions.builder import InstructionBuilder

_SAMPLE_SEED = 20240712  # of the user sample: one for all runs, so that rows and seeds are compared on the same users


@dataclass(frozen=True, slots=True)
class Setting:
    """A column group of Tables 2 to 5: what is asked and with which proportion."""

    task: str
    proportion: int | None = None

    @property
    def control(self) -> Control | None:
        """The control asked for; None for recommendation without one."""
        return control_of(self.task)


def settings() -> dict[str, Setting]:
    """Return every setting: I0, those of the registered controls in their order, and formatting."""
    asked = {
        name: Setting(control.task, percent) for control in controls() for name, percent in control.settings.items()
    }
    return {"sequential": Setting(SEQUENTIAL), **asked, "formatting": Setting(SEQUENTIAL)}


SETTINGS: Mapping[str, Setting] = settings()


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
    """Return the questions of one setting, the same for every row of a table.

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
