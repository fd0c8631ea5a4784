"""A control must be known in every room: what one forgot would be trained, paid or measured wrong."""

import pytest

from ctrlrec.controls.instruction import Instruction
from ctrlrec.controls.registry import control_of, families
from ctrlrec.evaluation.settings import SETTINGS
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.reporting.rows import Row
from ctrlrec.reporting.summary import lines_of
from ctrlrec.rewards.judging import Judgement, Side
from ctrlrec.rewards.schemes import SCHEMES

OF_USERS = [task for turns in families().values() for task in turns if task not in ("search", "chat")]


def judgement(task: str) -> Judgement:
    instruction = Instruction(task, "u", (), 9, 2, "c", 50, None, (("user", "?"),))
    sides = tuple(Side(condition, (True, False), 1, 1, 20) for condition in instruction.conditions)
    return Judgement(instruction, (1, 2), (None, None), (1, 1), sides)


@pytest.mark.parametrize("task", OF_USERS)
def test_every_control_is_drawn_rewarded_and_measured(builder: InstructionBuilder, task: str) -> None:
    drawn = [{turn(place, 0) for place in range(len(OF_USERS))} for turn in builder._user_tasks(builder.families)]
    assert task in set.union(*drawn)
    assert isinstance(templates.has_selection_form(task), bool)
    for scheme in SCHEMES.values():
        assert len(scheme.item(judgement(task))) == 2 and isinstance(scheme.list(judgement(task)), float)
    settings = [name for name, setting in SETTINGS.items() if setting.task == task]
    assert settings
    cell = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3}
    everything = {name: dict.fromkeys(("TCP@10", "CPA", "HR@10", "HR@K"), cell) for name in settings}
    shown = {(column.setting, column.name) for _, column in lines_of([Row("v2", everything)])}
    control = control_of(task)
    assert control is None or (settings[0], control.metric) in shown


@pytest.mark.parametrize("task", ["search", "chat"])
def test_what_has_no_control_is_not_rewarded_as_if_it_had(task: str) -> None:
    for scheme in SCHEMES.values():
        with pytest.raises(ValueError, match=f"{task} has no control"):
            scheme.item(judgement(task))
        with pytest.raises(ValueError, match=f"{task} has no control"):
            scheme.list(judgement(task))
    assert control_of(task) is None
