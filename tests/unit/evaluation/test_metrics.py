"""Every metric against values worked out by hand."""

import json
import math
import random

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation import metrics

# a..l are comedies, m..z are not; a b c are films of the nineties too.
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CATALOGUE = Catalogue(
    items=tuple(LETTERS),
    titles=tuple(LETTERS),
    categories=tuple(
        (*(["Comedy"] if letter < "m" else ["Drama"]), *(["Nineties"] if letter < "d" else [])) for letter in LETTERS
    ),
    target_categories=tuple("Comedy" if letter < "m" else "Drama" for letter in LETTERS),
    interactions=(0,) * 26,
)
INSIDE = frozenset("abcdefghijkl")


def record(setting="sequential", written="", *, user="u", target="a", count=10, history=("y", "z"), **changes):
    """An answer; a character that is no lower-case letter is a title that does not exist."""
    return {
        "setting": setting,
        "user": user,
        "history": list(history),
        "target": target,
        "item_count": count,
        "category": None if setting in ("sequential", "formatting") else "Comedy",
        "proportion": {"at_most_20": 20, "about_30": 30, "at_least_30": 30}.get(setting),
        "prompt": "",
        "response": "",
        "titles": list(written),
        "items": [title if title in LETTERS else None for title in written],
        "teacher_rank": [None] * len(written),
    } | changes


def of(row, free=None):
    return metrics.answer_metrics(row, free, INSIDE)


@pytest.mark.parametrize(
    ("written", "count", "hr5", "ndcg5", "hr10", "ndcg10"),
    [
        ("abcdefghij", 10, 1, 1, 1, 1),
        ("bcaaaaaaaa", 10, 1, 0.5, 1, 0.5),  # the first of several places counts
        ("bcdefaghij", 10, 0, 0, 1, 1 / math.log2(7)),
        ("bcdefghija", 10, 0, 0, 1, 1 / math.log2(11)),
        ("bcdefghijka", 10, 0, 0, 0, 0),  # an eleventh item is not scored
        ("bca", 10, 1, 0.5, 1, 0.5),
        ("bcda", 3, 0, 0, 0, 0),  # a fourth item where three were asked for
        ("", 10, 0, 0, 0, 0),
        ("#%!", 10, 0, 0, 0, 0),
    ],
)
def test_accuracy(written, count, hr5, ndcg5, hr10, ndcg10):
    found = of(record(written=written, count=count))
    assert [found[name] for name in ("HR@5", "NDCG@5", "HR@10", "NDCG@10")] == pytest.approx([hr5, ndcg5, hr10, ndcg10])


def test_formatting_scores_accuracy_at_the_number_asked_for():
    found = of(record("formatting", "bcdefghijkla", count=12))
    assert found["HR@K"] == 1
    assert found["NDCG@K"] == pytest.approx(1 / math.log2(13))
    assert not [name for name in found if name.endswith(("@5", "@10"))]
    assert of(record("formatting", "bcdefghijkla", count=11))["HR@K"] == 0


@pytest.mark.parametrize(
    ("written", "count", "correct", "repeat", "nonexistent", "history"),
    [
        ("abcdefghij", 10, 1, 0, 0, 0),
        ("", 10, 0, 0, 0, 0),
        ("abc", 10, 0, 0, 0, 0),
        ("aab", 10, 0, 0.1, 0, 0),  # divided by the ten asked for, not by the three written
        ("aaaaaaaaaa", 10, 1, 0.9, 0, 0),
        ("ababcdefgh", 10, 1, 0.2, 0, 0),
        ("##!abcdefg", 10, 1, 0.1, 0.3, 0),  # an invented title repeats by its wording
        ("yzyabcdefg", 10, 1, 0.1, 0, 0.3),
        ("abcdefghijaaa##yy", 10, 0, 0, 0, 0),  # behind the tenth nothing is scored, but the count is wrong
        ("abcdefghijkl", 12, 1, 0, 0, 0),
        ("#yyabcd", 4, 0, 0.25, 0.25, 0.5),
    ],
)
@pytest.mark.parametrize("setting", tuple(metrics.SETTINGS))
def test_formatting_quality(setting, written, count, correct, repeat, nonexistent, history):
    found = of(record(setting, written, count=count))
    names = ("CorrectCount", "RepeatItem@K", "NonExist@K", "InHistory@K")
    assert [found[name] for name in names] == pytest.approx([correct, repeat, nonexistent, history])


def test_two_spellings_of_one_item_are_a_repeat_and_an_invented_title_is_no_item():
    row = record(titles=["Heat", "Haet", "a"], items=["a", "a", None])
    assert of(row)["RepeatItem@K"] == pytest.approx(0.1)
    assert of(row)["NonExist@K"] == pytest.approx(0.1)
    row = record(titles=["y"], items=[None], history=["y"])
    assert of(row)["InHistory@K"] == 0


@pytest.mark.parametrize("setting", metrics.CATEGORY_SETTINGS)
@pytest.mark.parametrize(
    ("written", "count", "share"),
    [
        ("abcdefghij", 10, 1),
        ("abcmnopqrs", 10, 0.3),
        ("abc", 10, 0.3),
        ("aaa#######", 10, 0.3),
        ("mnopqrstuvabc", 10, 0),
        ("", 10, 0),
        ("abcde", 5, 1),  # fewer than ten asked for
        ("mnopqrstuvabcde", 15, 0),  # TCP@10 looks at ten of fifteen
    ],
)
def test_target_category_proportion(setting, written, count, share):
    assert of(record(setting, written, count=count))["TCP@10"] == pytest.approx(share)


@pytest.mark.parametrize(
    ("setting", "written", "holds", "literal"),
    [
        ("at_most_20", "abmnopqrst", 1, 1),
        ("at_most_20", "abcmnopqrs", 0, 0),
        ("at_most_20", "aaamnopqrs", 0, 0),  # repeats count as written
        ("at_most_20", "##########", 0, 1),  # inventing everything satisfies the equation as printed only
        ("at_most_20", "a#mnopqrst", 1, 1),
        ("at_most_20", "ab#mnopqrs", 0, 1),
        ("at_most_20", "mnopqrstuvabc###", 1, 1),
        ("at_most_20", "", 1, 1),
        ("at_least_30", "abcmnopqrs", 1, 1),
        ("at_least_30", "abmnopqrst", 0, 0),
        ("at_least_30", "aaa", 1, 1),
        ("at_least_30", "###mnopqrs", 0, 0),
        ("at_least_30", "mnopqrstuvabc", 0, 0),
        ("about_30", "abmnopqrst", 1, 1),
        ("about_30", "abcdmnopqr", 1, 1),
        ("about_30", "abcdemnopq", 0, 0),
        ("about_30", "amnopqrstu", 0, 0),
        ("about_30", "ab########", 1, 1),
        ("about_30", "", 0, 0),
    ],
)
def test_proportion_accuracy(setting, written, holds, literal):
    found = of(record(setting, written))
    assert (found["CPA"], found["CPA_literal"]) == (holds, literal)


@pytest.mark.parametrize(
    ("bound", "count", "item_count", "percent", "holds"),
    [
        # 30% of 11..15 is 3.3, 3.6, 3.9, 4.2, 4.5
        *[("at_least", 3, k, 30, False) for k in (11, 12, 13, 14, 15)],
        *[("at_least", 4, k, 30, k < 14) for k in (11, 12, 13, 14, 15)],
        *[("at_most", 3, k, 30, True) for k in (11, 12, 13, 14, 15)],
        *[("at_most", 4, k, 30, k >= 14) for k in (11, 12, 13, 14, 15)],
        ("about", 2, 11, 30, False),  # 1.3 away
        ("about", 3, 13, 30, True),  # 0.9 away
        ("about", 5, 13, 30, False),  # 1.1 away
        ("about", 5, 14, 30, True),
        # 10 * 0.7 is 7.000000000000001 in other orders of the factors: integers decide
        ("at_least", 7, 10, 70, True),
        ("at_most", 7, 10, 70, True),
        ("about", 6, 10, 70, True),
        ("about", 8, 10, 70, True),
        ("at_least", 29, 100, 29, True),
        ("at_most", 29, 100, 29, True),
        ("at_most", 0, 5, 0, True),
        ("at_least", 5, 5, 100, True),
    ],
)
def test_proportions_are_compared_exactly(bound, count, item_count, percent, holds):
    assert metrics.proportion_holds(bound, count, item_count, percent) is holds


def test_free_numbers_score_the_sequential_answer_against_this_question():
    free = record(written="abmnopqrst")
    positive = of(record("category_positive", "abcdefghij"), free)
    assert (positive["TCP@10"], positive["TCP@10_free"]) == (1, pytest.approx(0.2))
    bounded = of(record("at_most_20", "abcmnopqrs"), free)
    assert (bounded["CPA"], bounded["CPA_free"]) == (0, 1)
    assert of(record("at_most_20", "mnopqrstuv"), record(written="ab#mnopqrs"))["CPA_free"] == 0
    assert of(record("at_least_30", "mnopqrstuv"), record(written="abc"))["CPA_free"] == 1
    assert not [name for name in of(record("about_30", "abc")) if name.endswith("_free")]


def test_metrics_of_each_setting():
    rows = [record(setting, "abc") for setting in metrics.SETTINGS]
    found = {name: set(scores.values) for name, scores in metrics.per_user(rows, CATALOGUE).items()}
    quality = {"CorrectCount", "RepeatItem@K", "NonExist@K", "InHistory@K"}
    accuracy = {"HR@5", "HR@10", "NDCG@5", "NDCG@10"}
    shares = {"TCP@10", "TCP@10_free"}
    bounds = {"CPA", "CPA_free", "CPA_literal"}
    assert found == {
        "sequential": quality | accuracy,
        "category_positive": quality | accuracy | shares,
        "category_negative": quality | accuracy | shares,
        "at_most_20": quality | accuracy | bounds,
        "about_30": quality | accuracy | bounds,
        "at_least_30": quality | accuracy | bounds,
        "formatting": quality | {"HR@K", "NDCG@K"},
    }


def test_free_numbers_average_over_users_that_have_a_sequential_answer():
    rows = [
        record("category_positive", "abcdefghij", user="1"),
        record("category_positive", "mnopqrstuv", user="2"),
        record("sequential", "abcdemnopq", user="2"),
    ]
    cells = metrics.score(rows, CATALOGUE, 50, 0.95, 0)["settings"]["category_positive"]
    assert cells["TCP@10"]["value"] == 0.5
    assert cells["TCP@10"]["n"] == 2
    assert cells["TCP@10_free"] == {"value": 0.5, "low": 0.5, "high": 0.5, "n": 1}
    assert "TCP@10_free" not in metrics.score(rows[:2], CATALOGUE, 50, 0.95, 0)["settings"]["category_positive"]


def test_a_category_is_looked_up_per_record():
    rows = [record("category_negative", "abcdefghij", category="Nineties")]
    assert metrics.score(rows, CATALOGUE, 5, 0.95, 0)["settings"]["category_negative"]["TCP@10"]["value"] == 0.3


def test_nothing_answered_is_no_setting():
    assert metrics.score([], CATALOGUE, 10, 0.95, 0) == {"settings": {}}


answers = st.builds(
    lambda setting, written, user, target, count: record(setting, written, user=user, target=target, count=count),
    st.sampled_from(tuple(metrics.SETTINGS)),
    st.text("abcdmnopyz#%", max_size=18),
    st.sampled_from("123456"),
    st.sampled_from("abcmno"),
    st.integers(1, 15),
)
several = st.lists(answers, max_size=20, unique_by=lambda row: (row["setting"], row["user"]))


@settings(deadline=None, max_examples=60)
@given(several, st.randoms(use_true_random=False))
def test_order_of_records_changes_nothing(rows, shuffler):
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert metrics.score(rows, CATALOGUE, 20, 0.95, 3) == metrics.score(shuffled, CATALOGUE, 20, 0.95, 3)


@settings(deadline=None, max_examples=60)
@given(several)
def test_shares_lie_between_zero_and_one_and_depth_only_helps(rows):
    for cells in metrics.score(rows, CATALOGUE, 20, 0.95, 0)["settings"].values():
        for cell in cells.values():
            assert -1e-9 <= cell["low"] <= cell["high"] <= 1 + 1e-9
            assert 0 <= cell["value"] <= 1
        if "HR@5" in cells:
            assert cells["NDCG@5"]["value"] <= cells["HR@5"]["value"] <= cells["HR@10"]["value"]
        if "CPA" in cells:
            assert cells["CPA"]["value"] <= cells["CPA_literal"]["value"]


@settings(deadline=None, max_examples=40)
@given(answers, st.text("abmnyz#", max_size=5))
def test_what_stands_behind_the_last_item_asked_for_is_not_scored(row, tail):
    count = row["item_count"]
    written = "".join(row["titles"]).ljust(count, "c")[:count]
    names = {"setting": row["setting"], "target": row["target"], "count": count}
    whole, longer = of(record(written=written, **names)), of(record(written=written + tail, **names))
    assert longer == whole | {"CorrectCount": float(not tail)}


def test_intervals_agree_with_scipy():
    values = np.random.default_rng(1).random(200) ** 2
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=0)
    low, high = np.quantile(metrics.bootstrap_means(values[:, None], 9999, 0)[:, 0], [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=2e-3)


def test_resampling_in_chunks_is_seeded(monkeypatch):
    values = np.arange(30.0).reshape(10, 3)
    once = metrics.bootstrap_means(values, 40, 5)
    assert np.array_equal(once, metrics.bootstrap_means(values, 40, 5))
    assert not np.array_equal(once, metrics.bootstrap_means(values, 40, 6))
    monkeypatch.setattr(metrics, "_CHUNK", 35)
    chunked = metrics.bootstrap_means(values, 40, 5)
    assert chunked.shape == (40, 3)
    assert np.allclose(chunked[:, 1] - chunked[:, 0], 1)  # metrics of one user stay together


def many(seed, chance):
    draw = random.Random(seed)
    return [
        record(setting, "a" * 10 if draw.random() < chance else "bmnopqrstu", user=str(user))
        for setting in ("sequential", "category_positive")
        for user in range(300)
    ]


def test_intervals_narrow_as_confidence_falls_and_hold_the_value():
    rows = many(0, 0.4)
    wide = metrics.score(rows, CATALOGUE, 500, 0.99, 0)["settings"]["sequential"]["HR@10"]
    narrow = metrics.score(rows, CATALOGUE, 500, 0.8, 0)["settings"]["sequential"]["HR@10"]
    assert wide["low"] < narrow["low"] < narrow["value"] == wide["value"] < narrow["high"] < wide["high"]
    assert json.loads(json.dumps(wide)) == wide


def test_paired_differences():
    better, worse = many(0, 0.6), many(1, 0.3)
    found = metrics.paired_bootstrap(better, worse, CATALOGUE, 500, 0.95, 0)["settings"]["sequential"]["HR@10"]
    scores = [metrics.score(rows, CATALOGUE, 1, 0.95, 0)["settings"]["sequential"]["HR@10"] for rows in (better, worse)]
    assert found["value"] == pytest.approx(scores[0]["value"] - scores[1]["value"])
    assert 0 < found["low"] < found["value"] < found["high"]
    assert found["n"] == 300
    same = metrics.paired_bootstrap(better, better, CATALOGUE, 50, 0.95, 0)["settings"]["sequential"]["HR@10"]
    assert same == {"value": 0, "low": 0, "high": 0, "n": 300}


def test_paired_differences_use_common_users_and_refuse_other_questions():
    first, second = [record(user=name) for name in "123"], [record(user=name) for name in "345"]
    assert metrics.paired_bootstrap(first, second, CATALOGUE, 5, 0.95, 0)["settings"]["sequential"]["HR@5"]["n"] == 1
    assert metrics.paired_bootstrap(first, [record(user="9")], CATALOGUE, 5, 0.95, 0) == {"settings": {}}
    with pytest.raises(CtrlRecError, match="user 2 was not asked the same in setting sequential"):
        metrics.paired_bootstrap(first, [record(user="2", count=5)], CATALOGUE, 5, 0.95, 0)


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
        metrics.score([record("about_30", "ab") | change], CATALOGUE, 5, 0.95, 0)


def test_missing_fields_and_double_answers_are_refused():
    row = record()
    del row["titles"]
    with pytest.raises(CtrlRecError, match="user u, setting sequential: no field titles"):
        metrics.score([row], CATALOGUE, 5, 0.95, 0)
    with pytest.raises(CtrlRecError, match="user u has two answers in setting sequential"):
        metrics.score([record(), record()], CATALOGUE, 5, 0.95, 0)
