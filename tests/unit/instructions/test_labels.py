"""Labels: the ground truth first, then the teacher's best that obey."""

import numpy as np
import pytest
import torch

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.instructions.labels import Demand, answers, category_of_negative, negative_categories, settle

HISTORY, TARGET = (3, 11, 20), 8  # item 8 is a Drama and nothing else


@pytest.fixture
def scores(catalogue: Catalogue) -> torch.Tensor:
    """Three rows of scores with equal values among them."""
    rows = torch.from_numpy(np.random.default_rng(5).integers(0, 12, (3, len(catalogue))).astype(float))
    rows[:, list(HISTORY)] = -torch.inf
    return rows


def in_order(scores: torch.Tensor, row: int) -> list[int]:
    """Every item that is not excluded, best first, lower index first among equals."""
    listed = [(-float(value), item) for item, value in enumerate(scores[row]) if value > -torch.inf]
    return [item for _, item in sorted(listed)]


@pytest.mark.parametrize("category", [None, "Drama", "Comedy"])
@pytest.mark.parametrize("keeps_target", [True, False])
@pytest.mark.parametrize("count_in", [0, 1, 3, 5])
def test_answers_against_a_full_sort(
    catalogue: Catalogue, scores: torch.Tensor, category: str | None, keeps_target: bool, count_in: int
) -> None:
    k = 5
    members = {i for i in range(len(catalogue)) if category in catalogue.categories[i]}
    if keeps_target and not (count_in - (TARGET in members) >= 0 and k - count_in - (TARGET not in members) >= 0):
        pytest.skip("the target cannot be among these")
    if category is None and count_in:
        pytest.skip("nothing is inside of nothing")
    demand = Demand(k, category, count_in, keeps_target)
    labels, ranks = answers(catalogue, scores, [TARGET] * 3, [demand] * 3)
    for row in range(3):
        order = in_order(scores, row)
        wanted = {"in": count_in, "out": k - count_in}
        if keeps_target:
            wanted["in" if TARGET in members else "out"] -= 1
        expected = []
        for item in order:
            kind = "in" if item in members else "out"
            if item != TARGET and wanted[kind]:
                wanted[kind] -= 1
                expected.append(item)
        assert labels[row] == ((TARGET,) if keeps_target else ()) + tuple(expected)
        assert ranks[row] == tuple(order.index(item) for item in labels[row])


def test_rows_of_one_batch_may_want_different_things(catalogue: Catalogue, scores: torch.Tensor) -> None:
    demands = [Demand(7, None, 0, True), Demand(2, "Drama", 1, True), Demand(4, "Comedy", 4, False)]
    together = answers(catalogue, scores, [TARGET, TARGET, 5], demands)
    for row, (target, demand) in enumerate(zip([TARGET, TARGET, 5], demands, strict=True)):
        alone = answers(catalogue, scores[row : row + 1], [target], [demand])
        assert (together[0][row], together[1][row]) == (alone[0][0], alone[1][0])


# ---------------------------------------------------------------------- which category


def toy(categories: list[tuple[str, ...]]) -> Catalogue:
    names = tuple(f"t{item}" for item in range(len(categories)))
    return Catalogue(names, names, tuple(categories), tuple(own[0] for own in categories), (1,) * len(names))


def test_negative_category_is_the_largest_that_the_target_lacks() -> None:
    shelf = toy([("a",), ("a", "b"), ("b",), ("c",), ("a", "c"), ("c",)])
    assert category_of_negative(shelf, [1, 2, 4, 3], target=0) == "b"  # as often as c, and first by name
    assert category_of_negative(shelf, [1, 3, 4], target=0) == "c"
    assert category_of_negative(shelf, [0, 0], target=0) is None
    assert category_of_negative(shelf, [1, 2, 4], target=3) == "a"


def test_negative_category_is_looked_for_deeper_where_the_top_has_none() -> None:
    shelf = toy([("a",)] * 9 + [("b",)])
    scores = torch.arange(10.0, 0, -1)[None]
    assert negative_categories(shelf, scores, [0], [2]) == ["b"]
    assert negative_categories(toy([("a",)] * 10), scores, [0], [2]) == [None]


# ---------------------------------------------------------------------- settle


def settled(shelf: Catalogue, task: str, k: int, percent: int | None, names: list[str], **changes) -> Demand:
    values = {"history": (), "target": 0, "target_required": True, "rng": np.random.default_rng(0)} | changes
    return settle(task, k, percent, names, shelf, **values)


def test_a_category_too_small_is_not_asked_for() -> None:
    shelf = toy([("small", "large"), ("small",), *[("large",)] * 6])
    assert settled(shelf, "category_positive", 4, None, ["small", "large"]) == Demand(4, "large", 4, True)
    assert settled(shelf, "category_positive", 2, None, ["small", "large"]) == Demand(2, "small", 2, True)


def test_k_is_lowered_where_no_category_is_large_enough() -> None:
    shelf = toy([("small",), ("small",), *[("large",)] * 6])
    assert settled(shelf, "category_positive", 5, None, ["small"]) == Demand(2, "small", 2, True)


def test_what_the_history_shows_cannot_fill_a_list() -> None:
    shelf = toy([("c",)] * 5)
    assert settled(shelf, "category_positive", 5, None, ["c"], history=(3, 4)) == Demand(3, "c", 3, True)


def test_counts_vary_over_all_that_is_allowed() -> None:
    shelf = toy([("c",)] * 20 + [("d",)] * 20)
    rng = np.random.default_rng(0)
    counts = {settled(shelf, "proportion_at_least", 10, 70, ["c"], rng=rng).count_in for _ in range(100)}
    assert counts == {7, 8, 9, 10}
    # The target is outside: it takes one of the places, so at most nine are inside.
    counts = {settled(shelf, "proportion_at_least", 10, 70, ["c"], rng=rng, target=30).count_in for _ in range(100)}
    assert counts == {7, 8, 9}


def test_a_ground_truth_that_does_not_fit_is_left_out_only_if_it_may() -> None:
    shelf = toy([("c",)] * 5 + [("d",)] * 5)
    free = settled(shelf, "category_negative", 3, None, ["c"], target_required=False)
    assert free == Demand(3, "c", 0, False)
    assert settled(shelf, "category_negative", 3, None, ["c"]).category is None  # the target is inside
    assert settled(shelf, "category_negative", 3, None, ["c"], target=7) == Demand(3, "c", 0, True)
