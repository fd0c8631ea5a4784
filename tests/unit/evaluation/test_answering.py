"""A setting that nobody can be asked is left out: data with one category have no other."""

import dataclasses
import logging
from types import SimpleNamespace

import pytest

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.answering import predictions, teacher_answers
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.evaluation.scoring import score


def test_one_category_for_all_leaves_the_negative_settings_out(
    make_builder, catalogue: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    everything = (("Everything",),) * len(catalogue)
    alike = dataclasses.replace(catalogue, categories=everything, target_categories=("Everything",) * len(catalogue))
    builder = make_builder(catalogue=alike)
    settings = ("sequential", "category_positive", "category_negative", "at_most_20", "about_30")
    evaluation = SimpleNamespace(users=5, item_count=10, selection=False, formatting_item_counts=[11])
    config = SimpleNamespace(evaluation=evaluation, variant=SimpleNamespace(prompt_suffix=None, first_users=None))
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
