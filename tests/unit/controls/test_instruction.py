"""Proportions in exact integers."""

import pytest

from ctrlrec.controls.registry import control_of, families
from ctrlrec.instructions.labels import feasible_counts

MOST, LEAST, ABOUT = "proportion_at_most", "proportion_at_least", "proportion_about"


def obeys(task: str, count: int, k: int, percent: int) -> bool:
    if task == MOST:
        return 100 * count <= k * percent
    if task == LEAST:
        return 100 * count >= k * percent
    return abs(100 * count - k * percent) <= 100


@pytest.mark.parametrize("task", [MOST, LEAST, ABOUT])
def test_allowed_counts_are_all_that_obey(task: str) -> None:
    for k in range(1, 16):
        for percent in range(101):
            expected = [count for count in range(k + 1) if obeys(task, count, k, percent)]
            assert list(control_of(task).allowed(k, percent)) == expected, (k, percent)


def test_seventy_percent_of_ten_is_seven() -> None:
    assert list(control_of(MOST).allowed(10, 70)) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert list(control_of(LEAST).allowed(10, 70)) == [7, 8, 9, 10]
    assert list(control_of(ABOUT).allowed(10, 70)) == [6, 7, 8]


@pytest.mark.parametrize("target_inside", [True, False, None])
@pytest.mark.parametrize(
    ("task", "percent"),
    [(MOST, 30), (MOST, 0), (LEAST, 30), (LEAST, 100), (ABOUT, 50), (ABOUT, 10),
     ("category_positive", None), ("category_negative", None)],
)  # fmt: skip
def test_feasible_counts_are_those_that_a_list_exists_for(
    task: str, percent: int | None, target_inside: bool | None
) -> None:
    """Brute force: take a and b items of either kind from a shelf, add the ground truth, look what comes out."""
    for k in range(1, 7):
        for inside in range(5):
            for outside in range(5):
                found = set()
                for a in range(inside + 1):
                    for b in range(outside + 1):
                        lead = 0 if target_inside is None else 1
                        count = a + (target_inside is True)
                        if a + b + lead != k:
                            continue
                        if task == "category_positive":
                            obedient = count == k
                        elif task == "category_negative":
                            obedient = count == 0
                        else:
                            obedient = obeys(task, count, k, percent)
                        if obedient:
                            found.add(count)
                assert feasible_counts(task, k, percent, target_inside, inside, outside) == sorted(found)


def test_families_are_the_names_of_the_configuration() -> None:
    assert set(families()) == {"sequential", "category", "proportion", "search", "chat"}
