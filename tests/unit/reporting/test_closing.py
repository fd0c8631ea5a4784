"""What a run ends with."""

from pathlib import Path
from typing import Any

import pytest

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.reporting.closing import closing, three_answers
from ctrlrec.runtime.files import write_jsonl


@pytest.fixture
def predictions(tmp_path: Path, catalogue: Catalogue) -> Path:
    def row(setting: str, user: str, category: str | None, items: list[int]) -> dict[str, Any]:
        titles = [catalogue.titles[item] for item in items]
        history = list(catalogue.titles[30:35])
        return {"setting": setting, "user": user, "history": history, "category": category, "titles": titles,
                "items": list(titles)}  # fmt: skip

    action = [item for item, names in enumerate(catalogue.categories) if "Action, Adventure" in names]
    other = [item for item in range(40) if item not in action]
    rows = [
        row("sequential", "a", None, [0]),
        row("sequential", "b", None, [5, 6]),
        row("category_positive", "b", "Action, Adventure", [action[1], other[1]]),
        row("about_30", "b", "Action, Adventure", [1, 2]),
        row("category_negative", "b", "Action, Adventure", [other[0], action[0]]),
    ]
    rows[-1]["items"][0] = None  # invented
    write_jsonl(tmp_path / "predictions.jsonl", rows)
    return tmp_path / "predictions.jsonl"


def test_one_users_three_answers_are_said_in_words(predictions: Path, catalogue: Catalogue) -> None:
    titles = catalogue.titles
    action = [item for item, names in enumerate(catalogue.categories) if "Action, Adventure" in names]
    other = [item for item in range(40) if item not in action]
    assert three_answers(predictions, catalogue) == [
        f"A user who last saw {titles[32]}; {titles[33]}; {titles[34]}",
        f"  asked for nothing in particular: {titles[5]}; {titles[6]}",
        f"  asked for more Action, Adventure: {titles[action[1]]} *; {titles[other[1]]}",
        f"  asked for no Action, Adventure: {titles[other[0]]}; {titles[action[0]]} *",
    ]
    told = closing("full", predictions, catalogue, Path("runs/tables/x"), "make ablation").splitlines()
    assert told[0] == "full, in words (* in the category):"
    assert told[-2:] == ["report: runs/tables/x", "next:   make ablation"]


def test_without_the_three_settings_a_run_says_where_its_report_lies(tmp_path: Path, catalogue: Catalogue) -> None:
    write_jsonl(tmp_path / "predictions.jsonl", [{"setting": "formatting", "user": "a"}])
    assert closing("full", tmp_path / "predictions.jsonl", catalogue, Path("t"), None) == "report: t"
