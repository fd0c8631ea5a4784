"""Scores of users, their averages and differences, over the lines of ``predictions.jsonl``."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import ANSWERS, CATALOGUE, record

from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.scoring import paired_differences, score, summarise_differences

several = st.lists(ANSWERS, max_size=20, unique_by=lambda row: (row["setting"], row["user"]))


def test_free_numbers_average_over_users_that_have_a_sequential_answer():
    rows = [
        record("category_positive", "abcdefghij", user="1"),
        record("category_positive", "mnopqrstuv", user="2"),
        record("sequential", "abcdemnopq", user="2"),
    ]
    cells = score(rows, CATALOGUE, 50, 0.95, 0)["settings"]["category_positive"]
    assert cells["TCP@10"]["value"] == 0.5
    assert cells["TCP@10"]["n"] == 2
    assert cells["TCP@10_free"] == pytest.approx({"value": 0.5, "low": 0.0125, "high": 0.9875, "n": 1})
    assert "TCP@10_free" not in score(rows[:2], CATALOGUE, 50, 0.95, 0)["settings"]["category_positive"]


def test_a_category_is_looked_up_per_record():
    rows = [record("category_negative", "abcdefghij", category="Nineties")]
    assert score(rows, CATALOGUE, 5, 0.95, 0)["settings"]["category_negative"]["TCP@10"]["value"] == 0.3


def test_nothing_answered_is_no_setting():
    assert score([], CATALOGUE, 10, 0.95, 0) == {"settings": {}}


@settings(deadline=None, max_examples=60)
@given(several, st.randoms(use_true_random=False))
def test_order_of_records_changes_nothing(rows, shuffler):
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert score(rows, CATALOGUE, 20, 0.95, 3) == score(shuffled, CATALOGUE, 20, 0.95, 3)


@settings(deadline=None, max_examples=60)
@given(several)
def test_shares_lie_between_zero_and_one_and_depth_only_helps(rows):
    for cells in score(rows, CATALOGUE, 20, 0.95, 0)["settings"].values():
        for cell in cells.values():
            assert -1e-9 <= cell["low"] <= cell["high"] <= 1 + 1e-9
            assert 0 <= cell["value"] <= 1
        if "HR@5" in cells:
            assert cells["NDCG@5"]["value"] <= cells["HR@5"]["value"] <= cells["HR@10"]["value"]
        if "CPA" in cells:
            assert cells["CPA"]["value"] <= cells["CPA_literal"]["value"]


def many(seed, chance):
    draw = random.Random(seed)
    return [
        record(setting, "a" * 10 if draw.random() < chance else "bmnopqrstu", user=str(user))
        for setting in ("sequential", "category_positive")
        for user in range(300)
    ]


def test_intervals_narrow_as_confidence_falls_and_hold_the_value():
    rows = many(0, 0.4)
    wide = score(rows, CATALOGUE, 500, 0.99, 0)["settings"]["sequential"]["HR@10"]
    narrow = score(rows, CATALOGUE, 500, 0.8, 0)["settings"]["sequential"]["HR@10"]
    assert wide["low"] < narrow["low"] < narrow["value"] == wide["value"] < narrow["high"] < wide["high"]
    assert json.loads(json.dumps(wide)) == wide


def compared(first, second):
    return summarise_differences(paired_differences(first, second, CATALOGUE), 500, 0.95, 0)


def test_paired_differences():
    better, worse = many(0, 0.6), many(1, 0.3)
    found = compared(better, worse)["sequential"]["HR@10"]
    scores = [score(rows, CATALOGUE, 1, 0.95, 0)["settings"]["sequential"]["HR@10"] for rows in (better, worse)]
    assert found["value"] == pytest.approx(scores[0]["value"] - scores[1]["value"])
    assert 0 < found["low"] < found["value"] < found["high"]
    assert found["n"] == 300
    same = compared(better, better)["sequential"]["HR@10"]
    assert same == pytest.approx({"value": 0, "low": -0.01222, "high": 0.01222, "n": 300}, abs=5e-6)


def test_paired_differences_use_common_users_and_refuse_other_questions():
    first, second = [record(user=name) for name in "123"], [record(user=name) for name in "345"]
    assert compared(first, second)["sequential"]["HR@5"]["n"] == 1
    assert compared(first, [record(user="9")]) == {}
    with pytest.raises(CtrlRecError, match="user 2 was not asked the same in setting sequential"):
        compared(first, [record(user="2", count=5)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"setting": "sequentiel"}, "unknown setting; expected one of sequential"),
        ({"item_count": 0}, "item_count is 0"),
        ({"item_count": 10.0}, "item_count is 10.0"),
        ({"items": ["a"]}, "2 titles but 1 items"),
        ({"items": ["a", "Heat"]}, "item 'Heat' is not in the catalogue"),
        ({"target": "Heat"}, "item 'Heat' is not in the catalogue"),
        ({"target": None}, "no target"),
        ({"category": "Comedi"}, "category 'Comedi' is not in the catalogue"),
        ({"category": None}, "category None is not in the catalogue"),
        ({"proportion": 0.3}, "proportion is 0.3; expected whole percents"),
    ],
)
def test_records_that_break_the_contract_are_refused(change, message):
    with pytest.raises(CtrlRecError, match=message):
        score([record("about_30", "ab") | change], CATALOGUE, 5, 0.95, 0)


def test_missing_fields_and_double_answers_are_refused():
    row = record()
    del row["titles"]
    with pytest.raises(CtrlRecError, match="user u, setting sequential: no field titles"):
        score([row], CATALOGUE, 5, 0.95, 0)
    with pytest.raises(CtrlRecError, match="user u has two answers in setting sequential"):
        score([record(), record()], CATALOGUE, 5, 0.95, 0)
