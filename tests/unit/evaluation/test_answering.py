"""What becomes of answers: who is asked, how rows are read, and which answers are warned of."""

import dataclasses
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.answering import predictions, teacher_answers, warn_of_useless
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.evaluation.scoring import score


def asking(lenient: bool = False, users: int = 5) -> Any:
    evaluation = SimpleNamespace(users=users, item_count=10, selection=False, formatting_item_counts=[11])
    variant = SimpleNamespace(prompt_suffix=None, first_users=None, lenient_answers=lenient)
    return SimpleNamespace(evaluation=evaluation, variant=variant)


def test_one_category_for_all_leaves_the_negative_settings_out(
    make_builder, catalogue: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    everything = (("Everything",),) * len(catalogue)
    alike = dataclasses.replace(catalogue, categories=everything, target_categories=("Everything",) * len(catalogue))
    builder = make_builder(catalogue=alike)
    settings = ("sequential", "category_positive", "category_negative", "at_most_20", "about_30")
    config = asking()
    matcher = TitleMatcher(alike.titles, 0)
    with caplog.at_level(logging.WARNING, "ctrlrec"):
        answerer = teacher_answers(builder)
        rows = [row for setting in settings for row in predictions(setting, config, builder, answerer, matcher)]
    metrics = score(rows, alike, 10, 0.95, 0)["settings"]
    assert list(metrics) == ["sequential", "category_positive", "about_30"]
    assert metrics["category_positive"]["TCP@10"] == {
        "value": 1.0, "low": pytest.approx(0.4782, abs=5e-5), "high": 1.0, "n": 5,  # Clopper-Pearson: five of five
    }  # fmt: skip
    assert [text for text in settings if text in caplog.text] == ["category_negative", "at_most_20"]


@pytest.mark.parametrize("lenient", [False, True])
def test_a_row_decides_how_its_answers_are_read(builder, catalogue: Catalogue, lenient: bool) -> None:
    def answerer(asked: Any) -> list[str]:
        return ["1. **Babe**\n2. Jaws 2 - because of the sea\n3. No Such Film - a gem"] * len(asked)

    matcher = TitleMatcher(catalogue.titles, 0)
    (row,) = predictions("sequential", asking(lenient, users=1), builder, answerer, matcher)
    if lenient:
        assert row["titles"] == ["Babe", "Jaws 2", "No Such Film - a gem"]
        assert row["items"] == ["Babe", "Jaws 2", None]
    else:
        assert row["titles"] == ["**Babe**", "Jaws 2 - because of the sea", "No Such Film - a gem"]
        assert row["items"] == [None, None, None]


@pytest.mark.parametrize(
    ("titles", "items", "said"),
    [
        (["A"] * 3, [1] * 3, None),
        (["A"] * 2, [1] * 2, "no answer has the number of items asked for; the first answer: '1. A 2. \\\\x1b'"),
        (["A"] * 3, [None] * 3, "no item is in the catalogue; the first answer"),
        (["A"] * 2, [None] * 2, "asked for and no item is in the catalogue"),
        ([], [], "2 of 2 answers are empty"),
    ],
)
def test_answers_that_no_metric_can_tell_from_silence_are_warned_of(
    titles: list[str], items: list[Any], said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"titles": titles, "items": items, "item_count": 3, "response": "1. A\n2. \\x1b"}
    with caplog.at_level(logging.WARNING, "ctrlrec"):
        warn_of_useless([row, row], "sequential")
    assert (said or "") in caplog.text and bool(caplog.text) == bool(said)
    caplog.clear()
    warn_of_useless([row, row | {"titles": ["A"] * 3, "items": [1, 2, 3]}], "sequential")
    assert not caplog.text
