"""Metrics of blends against values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrlrec.controls.instruction import Condition
from ctrlrec.controls.registry import CONTROLS
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.metrics import Answer, metrics_of
from ctrlrec.evaluation.metrics.blends import regret, violations
from ctrlrec.evaluation.scoring import score

# a..l are comedies, m..z are not; a b c m are films of the nineties too.
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CATALOGUE = Catalogue(
    items=tuple(LETTERS),
    titles=tuple(LETTERS),
    categories=tuple(
        (*(["Comedy"] if letter < "m" else ["Drama"]), *(["Nineties"] if letter in "abcm" else []))
        for letter in LETTERS
    ),
    target_categories=tuple("Comedy" if letter < "m" else "Drama" for letter in LETTERS),
    interactions=(0,) * 26,
)


def asks(*conditions: tuple[str, str, int | None], count: int = 10) -> dict:
    constraints = [{"kind": kind, "category": name, "proportion": percent} for kind, name, percent in conditions]
    return {"item_count": count, "constraints": constraints}


def answer_to(question: dict, written: str) -> Answer:
    items = [letter if letter in LETTERS else None for letter in written]
    return Answer(question, list(written), items, frozenset(), CATALOGUE)


def missed(question: dict, written: str) -> list[int]:
    return violations(answer_to(question, written))


@pytest.mark.parametrize(
    ("conditions", "written", "expected"),
    [
        ([("positive", "Comedy", None), ("at_most", "Nineties", 20)], "abdefghijk", [0, 0]),
        ([("positive", "Comedy", None), ("at_most", "Nineties", 20)], "abcefghimn", [2, 2]),
        ([("positive", "Comedy", None), ("at_most", "Nineties", 20)], "", [10, 8]),  # silence meets nothing
        ([("positive", "Comedy", None), ("at_most", "Nineties", 20)], "##########", [10, 8]),
        ([("negative", "Drama", None), ("at_least", "Nineties", 30)], "abdefghijk", [0, 1]),
        ([("negative", "Drama", None), ("at_least", "Nineties", 30)], "abc", [7, 0]),  # seven are missing
        ([("about", "Comedy", 30), ("about", "Nineties", 30)], "abopqrstuv", [0, 0]),  # within one of three
        ([("about", "Comedy", 30), ("about", "Nineties", 30)], "adefgopqrs", [1, 1]),
        ([("at_least", "Comedy", 30), ("at_most", "Drama", 70)], "abcmnopqrsdefgh", [0, 0]),  # ten are scored
        ([("at_most", "Drama", 20), ("negative", "Nineties", None)], "d#e#f#ghij", [1, 0]),  # as CPA and TCP count
    ],
)
def test_violations(conditions: list, written: str, expected: list[int]) -> None:
    assert missed(asks(*conditions), written) == expected


@given(
    kind=st.sampled_from(sorted(CONTROLS)),
    percent=st.integers(0, 100),
    count=st.integers(1, 12),
    written=st.text(alphabet="abcdmnop#", max_size=14),
)
def test_a_condition_is_met_where_its_own_measure_is_perfect(kind: str, percent: int, count: int, written: str) -> None:
    control = CONTROLS[kind]
    asked = percent if control.takes_percent else None
    inside = [None if letter == "#" else letter in "abcm" for letter in written[:count]]
    perfect = control.measure(inside, count, asked) == (0.0 if control.lower_is_better else 1.0)
    (items,) = missed(asks((kind, "Nineties", asked), count=count), written)
    assert (items == 0) is perfect and 0 <= items <= count


def question(ranks: list, best: str, best_rank: list[int], target: str = "t") -> dict:
    return asks(("positive", "Comedy", None), count=3) | {
        "user": "u", "history": ["y", "z"], "target": target, "teacher_rank": ranks, "best_rank": best_rank,
        "best": list(best),
    }  # fmt: skip


BEST = 1 / math.log2(3) + 1 / math.log2(5) / math.log2(3) + 1 / math.log2(7) / 2  # ranks 0, 2, 4


@pytest.mark.parametrize(
    ("written", "ranks", "total"),
    [
        ("ace", [0, 2, 4], BEST),
        ("acefg", [0, 2, 4, 5, 6], BEST),  # after the third nothing is scored
        ("", [], 0.0),
        ("aa#", [0, 0, None], 1 / math.log2(3) - 2),  # a repeat and an invention
        ("y", [None], -1.0),  # in the history
        ("tac", [9, 0, 2], 1 + 1 / math.log2(3) / math.log2(3) + 1 / math.log2(5) / 2),  # the target counts 1
    ],
)
def test_regret(written: str, ranks: list, total: float) -> None:
    assert regret(answer_to(question(ranks, "ace", [0, 2, 4]), written)) == pytest.approx(1 - total / BEST)


def line(setting: str, written: str, conditions: tuple = (), user: str = "u", **changes: object) -> dict:
    """A line of predictions.jsonl; the best list is acegi with the ranks 0 to 4."""
    return asks(*conditions, count=5) | {
        "setting": setting, "user": user, "history": ["y", "z"], "target": "t", "category": None, "proportion": None,
        "titles": list(written), "items": [letter if letter in LETTERS else None for letter in written],
        "teacher_rank": [None if letter in "yz#" else 1 for letter in written],
        "best": list("acegi"), "best_rank": [0, 1, 2, 3, 4],
    } | changes  # fmt: skip


TWO = (("positive", "Comedy", None), ("at_most", "Nineties", 20))


def test_all_metrics_of_a_setting() -> None:
    """One user meets both conditions, one meets the second alone; without control neither meets the first."""
    rows = [
        line("blend_2", "adefg", TWO), line("blend_2", "mnopq", TWO, "v"),
        line("sequential", "abmno"), line("sequential", "nopqr", user="v"),
    ]  # fmt: skip
    cells = score(rows, CATALOGUE, 50, 0.95, 0)["settings"]["blend_2"]
    values = {name: cell["value"] for name, cell in cells.items()}
    assert values["all_satisfied"] == 0.5 and values["satisfied"] == 0.75 and values["violation"] == 2.5
    assert values["all_satisfied_free"] == 0 and values["satisfied_free"] == 0.25
    assert values["violation_free"] == (3 + 2 + 5) / 2
    ranks = sum(1 / math.log2(rank + 3) / math.log2(rank + 2) for rank in range(5))
    assert values["regret"] == pytest.approx(1 - sum(0.5 / math.log2(place + 2) for place in range(5)) / ranks)
    assert {"HR@5", "HR@10", "NDCG@10", "CorrectCount"} <= set(values) and "regret_free" not in values
    assert metrics_of("blend_2").keys() == metrics_of("blend_unseen").keys()


def test_the_best_list_has_a_hit_rate_of_its_own() -> None:
    rows = [line("blend_2", "mnopq", TWO), line("blend_2", "", TWO, "v", target="i")]  # the best list has the second
    assert score(rows, CATALOGUE, 50, 0.95, 0)["settings"]["blend_2"]["HR@10_best"]["value"] == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"constraints": []}, "nothing in constraints"),
        ({"best": None}, "nothing in best"),
        ({"teacher_rank": [1]}, "one teacher_rank"),
        ({"constraints": [{"kind": "positive", "category": "Horror", "proportion": None}]}, "'Horror' is not in"),
    ],
)
def test_a_line_that_cannot_be_scored_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        score([line("blend_2", "abc", TWO, **changes)], CATALOGUE, 5, 0.95, 0)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(CtrlRecError, match=r"'often'.*positive"):
        missed(asks(("often", "Comedy", None)), "abc")


def test_a_constraint_in_a_file_is_read_as_it_was_written() -> None:
    for kind, control in CONTROLS.items():
        condition = Condition(control, "Comedy", 30 if control.takes_percent else None)
        assert condition.record()["kind"] == kind and Condition.read(condition.record()) == condition
