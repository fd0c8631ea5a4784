"""The script that asks what a reward pays for breaking the control compares the lists that it says it does."""

import runpy
from pathlib import Path

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.evaluation.settings import questions
from ctrlrec.instructions.builder import InstructionBuilder

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "experiments" / "reward_margin" / "margin.py"))


@pytest.mark.parametrize(("setting", "wanted"), [("category_positive", True), ("category_negative", False)])
def test_one_item_is_exchanged_and_breaks_the_control(builder: InstructionBuilder, setting: str, wanted: bool) -> None:
    config = compose("evaluation.item_count=4")
    catalogue = builder.catalogue
    questioned = [example.instruction for example in questions(setting, builder, config.evaluation, None)]
    kept, obeying, breaking = SCRIPT["lists"](builder, questioned, wanted, repeats=1)
    assert kept
    for asked, right, wrong in zip(kept, obeying, breaking, strict=True):
        inside = [asked.category in catalogue.categories[catalogue.title_index[title]] for title in right]
        assert inside == [wanted] * 4 and len(set(right)) == 3 and right[-1] == right[0]
        (place,) = [place for place in range(4) if right[place] != wrong[place]]
        assert place == 2 and (asked.category in catalogue.categories[catalogue.title_index[wrong[2]]]) is not wanted
        assert catalogue.titles[asked.target] not in (*right, *wrong)
    without = SCRIPT["gains"](SCRIPT["judged"](builder, questioned, wanted, 0), "paper", config.rl.list_weight)
    assert len(without) and (without < 0).all()
