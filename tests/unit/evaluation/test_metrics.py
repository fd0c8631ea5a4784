"""Every metric against values worked out by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from letters import ANSWERS, CATALOGUE, SINGLE, of, record

from ctrlrec.evaluation.scoring import per_user


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
    ("written", "count", "correct", "repeat", "of_written", "nonexistent", "history"),
    [
        ("abcdefghij", 10, 1, 0, 0, 0, 0),
        ("", 10, 0, 0, math.nan, 0, 0),
        ("abc", 10, 0, 0, 0, 0, 0),
        ("aab", 10, 0, 0.1, 1 / 3, 0, 0),  # divided by the ten asked for, not by the three written
        ("aaaaaaaaaa", 10, 1, 0.9, 0.9, 0, 0),
        ("ababcdefgh", 10, 1, 0.2, 0.2, 0, 0),
        ("##!abcdefg", 10, 1, 0.1, 0.1, 0.3, 0),  # an invented title repeats by its wording
        ("yzyabcdefg", 10, 1, 0.1, 0.1, 0, 0.3),
        ("abcdefghijaaa##yy", 10, 0, 0, 0, 0, 0),  # after the tenth nothing is scored, but the count is wrong
        ("abcdefghijkl", 12, 1, 0, 0, 0, 0),
        ("#yyabcd", 4, 0, 0.25, 0.25, 0.25, 0.5),
    ],
)
@pytest.mark.parametrize("setting", SINGLE)
def test_formatting_quality(setting, written, count, correct, repeat, of_written, nonexistent, history):
    found = of(record(setting, written, count=count))
    names = ("CorrectCount", "RepeatItem@K", "RepeatWritten@K", "NonExist@K", "InHistory@K")
    assert [found[name] for name in names] == pytest.approx(
        [correct, repeat, of_written, nonexistent, history], nan_ok=True
    )


def test_two_spellings_of_one_item_are_a_repeat_and_an_invented_title_is_no_item():
    row = record(titles=["Heat", "Haet", "a"], items=["a", "a", None])
    assert of(row)["RepeatItem@K"] == pytest.approx(0.1)
    assert of(row)["NonExist@K"] == pytest.approx(0.1)
    row = record(titles=["y"], items=[None], history=["y"])
    assert of(row)["InHistory@K"] == 0


@pytest.mark.parametrize(
    ("written", "count", "positive", "negative", "literal"),
    [
        ("abcdefghij", 10, 1, 1, 1),
        ("abcmnopqrs", 10, 0.3, 0.3, 0.3),
        ("abc", 10, 0.3, 1, 0.3),  # of seven missing items each counts as a comedy where none is wanted
        ("mno", 10, 0, 0.7, 0),
        ("aaa#######", 10, 0.3, 0.3, 0.3),
        ("#", 10, 0, 0.9, 0),
        ("mnopqrstuvabc", 10, 0, 0, 0),
        ("", 10, 0, 1, 0),  # saying nothing is the worst answer and not the best
        ("abcde", 5, 1, 1, 1),  # fewer than ten asked for
        ("mn", 4, 0, 0.5, 0),
        ("mnopqrstuvabcde", 15, 0, 0, 0),  # TCP@10 looks at ten of fifteen
        ("mnopqrst", 15, 0, 0.2, 0),
    ],
)
def test_target_category_proportion(written, count, positive, negative, literal):
    assert of(record("category_positive", written, count=count))["TCP@10"] == pytest.approx(positive)
    found = of(record("category_negative", written, count=count))
    assert (found["TCP@10"], found["TCP@10_literal"]) == pytest.approx((negative, literal))


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
        ("at_most_20", "", 0, 1),  # so does saying nothing
        ("at_most_20", "mnopqrst", 1, 1),  # two items are missing, as many as may be comedies
        ("at_most_20", "mnopqrs", 0, 1),
        ("at_most_20", "amnopqrst", 1, 1),
        ("at_most_20", "a#mnopqrs", 0, 1),
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
    setting = {"at_most": "at_most_20", "at_least": "at_least_30", "about": "about_30"}[bound]
    titles = ["a"] * count + ["m"] * (item_count - count)
    row = record(setting, count=item_count, proportion=percent, titles=titles, items=titles)
    assert of(row)["CPA"] == of(row)["CPA_literal"] == holds


def test_free_numbers_score_the_sequential_answer_against_this_question():
    free = record(written="abmnopqrst")
    positive = of(record("category_positive", "abcdefghij"), free)
    assert (positive["TCP@10"], positive["TCP@10_free"]) == (1, pytest.approx(0.2))
    bounded = of(record("at_most_20", "abcmnopqrs"), free)
    assert (bounded["CPA"], bounded["CPA_free"]) == (0, 1)
    assert of(record("at_most_20", "mnopqrstuv"), record(written="ab#mnopqrs"))["CPA_free"] == 0
    assert of(record("at_least_30", "mnopqrstuv"), record(written="abc"))["CPA_free"] == 1
    silent = record(written="")
    assert of(record("at_most_20", "mnopqrstuv"), silent)["CPA_free"] == 0
    assert of(record("category_negative", "mnopqrstuv"), silent)["TCP@10_free"] == 1
    assert not [name for name in of(record("about_30", "abc")) if name.endswith("_free")]


def test_metrics_of_each_setting():
    rows = [record(setting, "abc") for setting in SINGLE]
    found = {name: set(scores.values) for name, scores in per_user(rows, CATALOGUE).items()}
    quality = {"CorrectCount", "RepeatItem@K", "RepeatWritten@K", "NonExist@K", "InHistory@K"}
    accuracy = {"HR@5", "HR@10", "NDCG@5", "NDCG@10"}
    shares = {"TCP@10", "TCP@10_free"}
    bounds = {"CPA", "CPA_free", "CPA_literal"}
    beyond = {"ItemCoverage@K", "GiniIndex@K", "AveragePopularity@K", "Novelty@K", "ILD@K", "Calibration@K"}
    assert all(names >= beyond for names in found.values())
    assert {name: names - beyond for name, names in found.items()} == {
        "sequential": quality | accuracy,
        "category_positive": quality | accuracy | shares,
        "category_negative": quality | accuracy | shares | {"TCP@10_literal"},
        "at_most_20": quality | accuracy | bounds,
        "about_30": quality | accuracy | bounds,
        "at_least_30": quality | accuracy | bounds,
        "formatting": quality | {"HR@K", "NDCG@K"},
    }


@settings(deadline=None, max_examples=40)
@given(ANSWERS, st.text("abmnyz#", max_size=5))
def test_what_stands_behind_the_last_item_asked_for_is_not_scored(row, tail):
    count = row["item_count"]
    written = "".join(row["titles"]).ljust(count, "c")[:count]
    names = {"setting": row["setting"], "target": row["target"], "count": count}
    whole, longer = of(record(written=written, **names)), of(record(written=written + tail, **names))
    assert longer == whole | {"CorrectCount": float(not tail)}
