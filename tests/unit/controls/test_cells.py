"""The best list under several conditions, against every list there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlrec.controls import cells
from ctrlrec.controls.cells import best_list, cells_of
from ctrlrec.controls.instruction import Condition
from ctrlrec.controls.registry import CONTROLS
from ctrlrec.data.catalogue import Catalogue

NAMES = ("a", "b", "c", "d")


def shelf(categories: list[tuple[str, ...]]) -> Catalogue:
    titles = tuple(f"t{item}" for item in range(len(categories)))
    return Catalogue(titles, titles, tuple(categories), tuple(own[0] for own in categories), (1,) * len(titles))


def meets(kind: str, percent: int | None, count: int, k: int) -> bool:
    """As the paper words it."""
    return {
        "positive": lambda: count == k,
        "negative": lambda: count == 0,
        "at_most": lambda: 100 * count <= k * percent,
        "at_least": lambda: 100 * count >= k * percent,
        "about": lambda: abs(100 * count - k * percent) <= 100,
    }[kind]()


def by_trying_all(
    conditions: list[Condition], k: int, scores: np.ndarray, allowed: list[int], catalogue: Catalogue, first: int | None
) -> float | None:
    """Return the largest sum of scores of the items after ``first``; None if no list meets all."""
    kinds = {control: kind for kind, control in CONTROLS.items()}
    others = [item for item in allowed if item != first]
    sums = []
    for rest in itertools.combinations(others, k - (first is not None)):
        listed = [*rest, *([] if first is None else [first])]
        if all(
            meets(
                kinds[each.control],
                each.proportion,
                sum(each.category in catalogue.categories[item] for item in listed),
                k,
            )
            for each in conditions
        ):
            sums.append(sum(scores[item] for item in rest))
    return max(sums, default=None)


@st.composite
def questions(draw: st.DrawFn) -> tuple:
    count = draw(st.integers(3, 9))
    own = st.sets(st.sampled_from(NAMES), max_size=4).map(lambda names: ("all", *sorted(names)))
    catalogue = shelf(draw(st.lists(own, min_size=count, max_size=count)))
    # Whole numbers, so that sums are exact and many are equal.
    scores = np.array(draw(st.lists(st.integers(-5, 5), min_size=count, max_size=count)), float)
    known = [name for name in NAMES if name in catalogue.category_index]
    conditions = []
    for name in draw(st.permutations(known))[: draw(st.integers(1, 4))]:
        control = CONTROLS[draw(st.sampled_from(sorted(CONTROLS)))]
        percent = draw(st.sampled_from((0, 10, 20, 33, 50, 70, 90, 100))) if control.takes_percent else None
        conditions.append(Condition(control, name, percent))
    shown = draw(st.sets(st.integers(0, count - 1), max_size=2))
    allowed = [item for item in range(count) if item not in shown]
    first = draw(st.sampled_from([None, *allowed]))
    return catalogue, scores, conditions, draw(st.integers(1, 5)), allowed, first


@pytest.mark.parametrize("largest_table", [2**17, 1], ids=["table", "highs"])
@settings(max_examples=150, deadline=None)
@given(question=questions())
def test_the_list_is_the_best_of_all_lists(largest_table: int, question: tuple) -> None:
    catalogue, scores, conditions, k, allowed, first = question
    order = np.array(sorted(allowed, key=lambda item: (-scores[item], item)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cells, "_LARGEST_TABLE", largest_table)
        found = best_list(conditions, k, scores, order, catalogue, first)
    best = by_trying_all(conditions, k, scores, allowed, catalogue, first)
    if best is None:
        assert found is None
        return
    assert found is not None and len(set(found)) == len(found) == k and set(found) <= set(allowed)
    assert first is None or found[0] == first
    rest = found if first is None else found[1:]
    assert list(rest) == sorted(rest, key=lambda item: (-scores[item], item))
    assert sum(scores[list(rest)]) == best
    for condition in conditions:
        count = sum(condition.category in catalogue.categories[item] for item in found)
        assert count in condition.control.allowed(k, condition.proportion)


def test_long_lists_under_four_proportions_are_solved_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    catalogue = shelf([("all", *(name for name in NAMES if rng.random() < 0.4)) for _ in range(300)])
    scores = rng.normal(size=300)
    order = np.argsort(-scores)
    kinds = (("at_most", 20), ("at_least", 60), ("about", 30), ("about", 50))
    conditions = [Condition(CONTROLS[kind], name, percent) for name, (kind, percent) in zip(NAMES, kinds, strict=True)]
    sums = []
    for largest_table in (2**30, 1):
        monkeypatch.setattr(cells, "_LARGEST_TABLE", largest_table)
        found = best_list(conditions, 14, scores, order, catalogue)
        sums.append(scores[list(found)].sum())
    assert sums[0] == pytest.approx(sums[1], abs=1e-9)
    assert sums[0] < scores[order[:14]].sum()  # the conditions bind


def test_a_condition_that_cannot_bind_adds_no_cells() -> None:
    catalogue = shelf([("a", "b")] * 3 + [("b",)] * 3)
    loose = Condition(CONTROLS["at_most"], "a", 100)
    found = cells_of([loose, Condition(CONTROLS["positive"], "b", None)], 3, np.arange(6), catalogue)
    assert found.bounds == () and found.members[0][1].tolist() == [0, 1, 2]


def test_a_category_of_one_item() -> None:
    catalogue = shelf([("a",), ("b",), ("b",)])
    order, scores = np.array([1, 2, 0]), np.array([0.0, 2.0, 1.0])
    assert best_list([Condition(CONTROLS["positive"], "a", None)], 1, scores, order, catalogue) == (0,)
    assert best_list([Condition(CONTROLS["positive"], "a", None)], 2, scores, order, catalogue) is None
    assert best_list([Condition(CONTROLS["at_least"], "a", 50)], 2, scores, order, catalogue) == (1, 0)
