"""Rewards against numbers worked out by hand from the paper's equations."""

import math
from functools import cache

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.controls.registry import CONTROLS, control_of, kind_of
from ctrlrec.rewards.item import control_scores, scores
from ctrlrec.rewards.judging import Judgement, Side
from ctrlrec.rewards.list import positioned_scores
from ctrlrec.rewards.reward import Reward

# 1 / log2(n) for n = 3..6, and the discount of position 5
D3, D4, D5, D6 = 0.6309297535714575, 0.5, 0.43067655807339306, 0.38685280723454163
TARGET = 99
READINGS = ("paper", "paper_literal", "released")


@cache
def reward(reading: str = "paper", *overrides: str) -> Reward:
    """The reward of a configuration, with changes to it."""
    return Reward(compose(f"reward={reading}", *(f"reward.{change}" for change in overrides)).reward)


def judged(
    task: str,
    inside: str,
    k: int,
    percent: int | None = None,
    ranks: list[int | None] | None = None,
    target_at: int | None = None,
    size: int = 20,
) -> Judgement:
    """An answer spelt one letter per item: ``i`` inside, ``o`` outside, ``x`` a title of no item, ``h`` from history.

    Without ``ranks`` every item has teacher rank 1, hence a preference score of 1 / log2(4) = 0.5.
    """
    illegal = tuple({"x": "nonexistent", "h": "history"}.get(letter) for letter in inside)
    items = tuple(
        None if letter == "x" else TARGET if place == target_at else place for place, letter in enumerate(inside)
    )
    instruction = Instruction(
        task, "u", (), TARGET, k, None if task == "sequential" else "c", percent, None, (("user", "?"),)
    )
    placed = tuple(ranks) if ranks else tuple(None if letter in "xh" else 1 for letter in inside)
    within = tuple(letter == "i" for letter in inside)
    sides = tuple(
        Side(condition, within, inside.count("i"), inside.count("o"), size) for condition in instruction.conditions
    )
    return Judgement(instruction, items, illegal, placed, sides)


# ---------------------------------------------------------------------- Equation 1


def test_preference_is_the_teachers_rank_the_target_or_minus_one() -> None:
    answer = judged("sequential", "oooxo", 5, ranks=[0, 1, 5, None, 17], target_at=4)
    assert scores(answer) == pytest.approx([D3, 0.5, 1 / 3, -1.0, 1.0])


def test_an_illegal_target_earns_nothing() -> None:
    assert scores(judged("sequential", "h", 5, target_at=0)) == [-1.0]


# ---------------------------------------------------------------------- Algorithm 1


ABOUT, MOST, LEAST = "proportion_about", "proportion_at_most", "proportion_at_least"
ALGORITHM_1 = [
    # At most 40% of 5: at most 2 inside, at least 3 outside wanted.
    (MOST, "o", 5, 40, [1.0]),
    (MOST, "i", 5, 40, [0.5]),  # the first of two allowed: counts include the current item, 1 < 2
    (MOST, "ii", 5, 40, [0.5, 0.0]),  # 2 < 2 does not hold
    (MOST, "iii", 5, 40, [0.5, 0.0, 0.0]),
    (MOST, "oooo", 5, 40, [1.0, 1.0, 1.0, 0.5]),  # the fourth outside one is more than 5 - 2
    (MOST, "ooooi", 5, 40, [1.0, 1.0, 1.0, 0.5, 0.5]),
    # At least 40% of 5: the mirror.
    (LEAST, "iii", 5, 40, [1.0, 1.0, 0.5]),
    (LEAST, "iiio", 5, 40, [1.0, 1.0, 0.5, 0.5]),
    (LEAST, "o", 5, 40, [0.5]),
    (LEAST, "oooo", 5, 40, [0.5, 0.5, 0.0, 0.0]),
    (LEAST, "ooio", 5, 40, [0.5, 0.5, 1.0, 0.0]),
    # About 40% of 5.
    (ABOUT, "iii", 5, 40, [1.0, 1.0, 0.0]),
    (ABOUT, "iio", 5, 40, [1.0, 1.0, 1.0]),
    (ABOUT, "iiio", 5, 40, [1.0, 1.0, 0.0, 1.0]),
    (ABOUT, "oooo", 5, 40, [0.5, 0.5, 0.5, 0.0]),
    (ABOUT, "ooooi", 5, 40, [0.5, 0.5, 0.5, 0.0, 1.0]),
    # Fractions: 30% of 5 is 1.5 inside and 3.5 outside.
    (MOST, "ii", 5, 30, [0.5, 0.0]),
    (MOST, "oooo", 5, 30, [1.0, 1.0, 1.0, 0.5]),
    (LEAST, "iio", 5, 30, [1.0, 0.5, 0.5]),
    (ABOUT, "iio", 5, 30, [1.0, 0.0, 1.0]),
    (ABOUT, "ooooi", 5, 30, [0.5, 0.5, 0.5, 0.0, 1.0]),
    # 70% of 10 is exactly 7, and 3 outside; in floating point 10 * 0.7 is above and 10 * (1 - 0.7) is above 3.
    (MOST, "iiiiiii", 10, 70, [0.5] * 6 + [0.0]),
    (MOST, "oooo", 10, 70, [1.0, 1.0, 1.0, 0.5]),
    (LEAST, "iiiiiiii", 10, 70, [1.0] * 7 + [0.5]),
    (LEAST, "ooo", 10, 70, [0.5, 0.5, 0.0]),
    (ABOUT, "iiiiiiio", 10, 70, [1.0] * 8),
    (ABOUT, "oooo", 10, 70, [0.5, 0.5, 0.5, 0.0]),
    # Illegal items score -1 and are not counted.
    (MOST, "xihi", 5, 40, [-1.0, 0.5, -1.0, 0.0]),
    (LEAST, "ihiix", 5, 40, [1.0, -1.0, 1.0, 0.5, -1.0]),
    (ABOUT, "xooxoo", 5, 40, [-1.0, 0.5, 0.5, -1.0, 0.5, 0.0]),
    # All or nothing.
    (MOST, "oi", 2, 0, [1.0, 0.0]),
    (LEAST, "io", 2, 100, [1.0, 0.0]),
    # The others.
    ("category_positive", "ioxi", 5, None, [1.0, 0.0, -1.0, 1.0]),
    ("category_negative", "ioxo", 5, None, [0.0, 1.0, -1.0, 1.0]),
]


@pytest.mark.parametrize(("task", "answer", "k", "percent", "expected"), ALGORITHM_1)
def test_algorithm_1(task: str, answer: str, k: int, percent: int | None, expected: list[float]) -> None:
    assert control_scores(judged(task, answer, k, percent)) == expected


def test_without_a_control_the_preference_counts_twice() -> None:
    answer = judged("sequential", "oxo", 3, ranks=[0, None, 1])
    assert control_scores(answer) == pytest.approx([D3, -1.0, 0.5])
    for reading in READINGS:
        assert reward(reading).item(answer) == [D3, -1.0, 0.5]  # to the last digit: the halves add up to the whole


def test_item_reward_is_half_preference_half_control() -> None:
    answer = judged("category_positive", "iox", 3, ranks=[0, 1, None])
    expected = [0.5 * D3 + 0.5, 0.25, -1.0]
    for reading in READINGS:
        assert reward(reading).item(answer) == pytest.approx(expected)


# ---------------------------------------------------------------------- Equations 3 to 5


def test_positions_discount_legal_items_only() -> None:
    answer = judged("sequential", "oxoo", 4, ranks=[1, None, 1, 0], target_at=3)
    # positions 0, 2, 3: log2 of 2, 4, 5
    assert positioned_scores(answer) == pytest.approx([0.5, -1.0, 0.25, D5])


# Two items, the first the target (score 1), the second of rank 1 (0.5): Scores* are 1 and 0.5 / log2(3).
SUM = 1 + 0.5 * D3
# The best two scores*: 1 and 1 / log2(3)^2.
BEST_2 = 1 + D3**2

LISTS = [
    # task, answer, k, percent, size of category, the control part under paper, paper_literal, released
    ("sequential", "oo", 2, None, 0, SUM, SUM / 2, 1.0),  # log2(2 - 0 + 2) = 2
    ("category_positive", "ii", 2, None, 20, 1.0, 1.0, 1.0),
    ("category_positive", "io", 2, None, 20, D3, D3, 1 / 2),
    ("category_positive", "oo", 2, None, 20, D4, D4, 1 / 3),
    ("category_positive", "io", 2, None, 1, D3, D3, 1.0),  # released: no more than one item was available
    ("category_negative", "oo", 2, None, 20, 1.0, 1.0, 1.0),
    ("category_negative", "ii", 2, None, 20, D4, D4, 1 / 3),
    (MOST, "oo", 2, 50, 20, 1.0, 1.0, 1.0),
    (MOST, "ii", 2, 50, 20, D3, D3, 1 / 2),
    (MOST, "ii", 2, 0, 20, D4, D4, 1 / 3),
    (LEAST, "ii", 2, 50, 20, 1.0, 1.0, 1.0),
    (LEAST, "oo", 2, 50, 20, D3, D3, 1 / 2),
    (LEAST, "oo", 2, 100, 20, D4, D4, 1 / 3),
    (ABOUT, "io", 2, 50, 20, 1.0, 1.0, 1.0),
    (ABOUT, "ii", 2, 50, 20, D3, D3, 1 / 2),
    (ABOUT, "oo", 2, 50, 20, D3, D3, 1 / 2),
    (ABOUT, "oo", 2, 100, 20, D4, D4, 1 / 3),
    # 25% of 2 is half an item: one is half too many, none half too few; log2(2.5) = 1.3219...
    (ABOUT, "io", 2, 25, 20, 0.7564707973660299, 0.7564707973660299, 1 / 1.5),
    (ABOUT, "oo", 2, 25, 20, 0.7564707973660299, 0.7564707973660299, 1 / 1.5),
]


@pytest.mark.parametrize(("task", "answer", "k", "percent", "size", "paper", "literal", "released"), LISTS)
def test_list_rewards_of_three_readings(
    task: str, answer: str, k: int, percent: int | None, size: int, paper: float, literal: float, released: float
) -> None:
    answer_ = judged(task, answer, k, percent, target_at=0, size=size)
    assert reward("paper").list(answer_) == pytest.approx(0.5 * SUM + 0.5 * paper)
    assert reward("paper_literal").list(answer_) == pytest.approx(0.5 * SUM + 0.5 * literal)
    assert reward("released").list(answer_) == pytest.approx(0.5 * SUM / BEST_2 + 0.5 * released)


@pytest.mark.parametrize(("task", "answer"), [(MOST, "iiiiiiiooo"), (LEAST, "iiiiiiiooo"), (ABOUT, "iiiiiiiooo")])
def test_seven_of_ten_is_exactly_seventy_percent(task: str, answer: str) -> None:
    exact = judged(task, answer, 10, 70)
    plain = sum(positioned_scores(exact))
    assert reward("paper").list(exact) == 0.5 * plain + 0.5  # not a rounding error below
    assert reward("released").list(exact) - reward("released").list(judged(ABOUT, answer, 10, 60)) == pytest.approx(
        0.25  # one item off halves the control part
    )


def test_illegal_items_do_not_fill_a_demand() -> None:
    # k = 3, all wanted inside: one legal inside item, two missing: 1 / log2(4).
    answer = judged("category_positive", "ixx", 3, ranks=[0, None, None])
    assert reward("paper").list(answer) == pytest.approx(0.5 * (D3 - 2) + 0.5 * 0.5)
    assert reward("released").list(answer) == pytest.approx(0.5 * (D3 - 2) / (1 + D3**2 + 0.25) + 0.5 / 3)


def test_a_list_shorter_than_k_and_an_empty_one() -> None:
    short = judged("sequential", "o", 3, ranks=[0])
    assert reward("paper").list(short) == pytest.approx(D3)
    assert reward("paper_literal").list(short) == pytest.approx(0.5 * D3 + 0.5 * D3 * D5)  # log2(3 - 0 + 2)
    assert reward("released").list(short) == pytest.approx(0.5 * D3 / (1 + D3**2 + 0.25))
    empty = judged("category_positive", "", 3)
    assert reward("paper").item(empty) == []
    assert reward("paper").list(empty) == pytest.approx(0.5 * D5)  # 1 / log2(3 - 0 + 2)
    assert reward("released").list(empty) == pytest.approx(0.5 / 4)
    assert reward("paper").list(judged("sequential", "", 3)) == 0
    # Nothing inside is a perfect answer to "at most", as Eq. 4 has it.
    assert reward("paper").list(judged(MOST, "", 3, 30)) == 0.5


@pytest.mark.parametrize(("place", "control"), [(0, 1.0), (1, D3), (2, D4), (3, D5)])
def test_released_sequential_control_is_the_place_of_the_target(place: int, control: float) -> None:
    answer = judged("sequential", "oooo", 4, target_at=place)
    best = 1 + D3**2 + 0.25 + D5**2
    assert reward("released").list(answer) - 0.5 * sum(positioned_scores(answer)) / best == pytest.approx(0.5 * control)


def test_released_control_ignores_an_illegal_target() -> None:
    answer = judged("sequential", "h", 1, target_at=0)
    assert reward("released").list(answer) == -0.5


def test_a_perfect_list_earns_most() -> None:
    perfect = judged("category_positive", "iii", 3, ranks=[5, 0, 1], target_at=0)
    for name in READINGS:
        earned = reward(name).list
        for answer in ("iix", "ixi", "xii", "iio", "ooo", "ii", "hii"):
            worse = judged("category_positive", answer, 3, ranks=[None if x in "xh" else 5 for x in answer])
            assert earned(worse) < earned(perfect), (name, answer)


# ---------------------------------------------------------------------- weights, and where the list reward stands


def test_shares_and_weights_scale_the_parts() -> None:
    answer = judged("category_positive", "io", 2, target_at=0)  # scores 1 and 0.5, controls 1 and 0
    changed = reward("paper", "preference_share=0.2", "item_weight=3", "list_weight=7")
    assert changed.item(answer) == pytest.approx([1.0, 0.1])
    assert changed.list(answer) == pytest.approx(0.2 * SUM + 0.8 * D3)
    assert changed.total(changed.item(answer), changed.list(answer)) == pytest.approx(3.3 + 1.4 * SUM + 5.6 * D3)
    at_items, at_end = changed.credit([1.0, 0.1], 0.5, answer)
    assert at_items == pytest.approx([3.0, 0.3]) and at_end == pytest.approx(3.5)
    without = reward("paper", "item_weight=0")
    assert without.item(answer) == pytest.approx([1.0, 0.25])  # what an item deserves stays on record
    assert without.credit([1.0, 0.25], 0.5, answer) == ([0.0, 0.0], 5.0)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("task", ["sequential", "category_positive", ABOUT])
def test_missing_items_cost_what_the_configuration_says(reading: str, task: str) -> None:
    short, whole, long = (judged(task, "o" * written, 4, 50) for written in (1, 4, 5))
    paper, charging = reward(reading), reward(reading, "missing_item=1.5")
    assert charging.list(short) == pytest.approx(paper.list(short) - 3 * 1.5)
    assert charging.item(short) == paper.item(short)
    assert charging.list(whole) == paper.list(whole) and charging.list(long) == paper.list(long)
    earned = charging.item(short), charging.list(short)
    assert sum(charging.parts(short).values()) == pytest.approx(charging.total(*earned))
    assert charging.parts(short)["missing items"] == pytest.approx(-45)


def test_older_records_of_the_reward_charged_nothing_for_missing_items() -> None:
    short = judged("sequential", "o", 4)
    recorded = {name: value for name, value in reward("paper").settings.items() if name != "missing_item"}
    assert Reward.of_run(recorded).list(short) == reward("paper").list(short)
    assert Reward.of_run({**recorded, "missing_item": 1.0}).list(short) == reward("paper").list(short) - 3


ADDITIVE = [
    # reading, task, answer, what each item earns and what the end earns, under weights of 1 and 10
    # I0 of the paper: both halves of the list reward are sums over its items, so nothing is left for the end.
    ("paper", "sequential", "oo", [1 + 10, 0.5 + 5 * D3], 0.0),
    ("paper", "sequential", "xo", [-1 - 10, 0.5 + 5 * D3], 0.0),
    # A control is one number for the list: its half stays at the end, here 10 * 0.5 / log2(1 + 2).
    ("paper", "category_positive", "io", [1 + 5, 0.25 + 2.5 * D3], 5 * D3),
    ("paper", "category_positive", "xi", [-1 - 5, 0.75 + 2.5 * D3], 5 * D3),
    # As printed, I0's control is the sum over log2(2 + 2) = 2: half of it and a quarter of it again.
    ("paper_literal", "sequential", "oo", [1 + 7.5, 0.5 + 3.75 * D3], 0.0),
    ("paper_literal", "category_positive", "io", [1 + 5, 0.25 + 2.5 * D3], 5 * D3),
    # Released: the sum relative to the best list's at the items; the target's position is not a sum over items.
    ("released", "sequential", "oo", [1 + 5 / BEST_2, 0.5 + 2.5 * D3 / BEST_2], 5.0),
]


@pytest.mark.parametrize(("reading", "task", "answer", "items", "end"), ADDITIVE)
def test_what_items_add_to_the_list_reward_stands_at_them(
    reading: str, task: str, answer: str, items: list[float], end: float
) -> None:
    spelt = judged(task, answer, 2, target_at=None if answer.startswith("x") else 0)
    moved, kept = reward(reading, "additive_at_items=true"), reward(reading)
    earned = moved.item(spelt), moved.list(spelt)
    assert earned == (kept.item(spelt), kept.list(spelt))
    at_items, at_end = moved.credit(*earned, spelt)
    assert at_items == pytest.approx(items) and at_end == pytest.approx(end, abs=1e-12)
    assert sum(at_items) + at_end == pytest.approx(moved.total(*earned), abs=1e-12)


@pytest.mark.parametrize("additive", ["true", "false"])
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(("task", "answer"), [("sequential", "oxo"), (ABOUT, "ioxhi"), (MOST, ""), (LEAST, "iii")])
def test_totals_are_equal_wherever_rewards_stand(reading: str, additive: str, task: str, answer: str) -> None:
    spelt = judged(task, answer, 4, 50)
    weighted = reward(
        reading, f"additive_at_items={additive}", "item_weight=0.3", "list_weight=4", "preference_share=0.7"
    )
    items, whole = weighted.item(spelt), weighted.list(spelt)
    at_items, at_end = weighted.credit(items, whole, spelt)
    assert sum(at_items) + at_end == pytest.approx(0.3 * sum(items) + 4 * whole, abs=1e-12)


# ---------------------------------------------------------------------- blends (spec section 12)


def blended(*conditions: tuple[str, str, int | None], k: int) -> Judgement:
    """An answer of legal items of rank 1 under several conditions, each with its own spelling of who is inside."""
    blend = tuple(Condition(CONTROLS[kind], f"c{place}", m) for place, (kind, _, m) in enumerate(conditions))
    instruction = Instruction("blend", "u", (), TARGET, k, None, None, None, (("user", "?"),), blend)
    sides = tuple(
        Side(condition, tuple(letter == "i" for letter in inside), inside.count("i"), inside.count("o"), 20)
        for condition, (_, inside, _) in zip(blend, conditions, strict=True)
    )
    illegal = tuple({"x": "nonexistent"}.get(letter) for letter in conditions[0][1])
    items = tuple(None if reason else place for place, reason in enumerate(illegal))
    return Judgement(instruction, items, illegal, tuple(None if reason else 1 for reason in illegal), sides)


def test_a_blends_item_control_is_the_mean_of_algorithm_1() -> None:
    answer = blended(("positive", "ioxi", None), ("at_most", "iixo", 40), ("about", "ooxi", 40), k=5)
    assert control_scores(answer) == pytest.approx([(1 + 0.5 + 0.5) / 3, (0 + 0 + 0.5) / 3, -1.0, (1 + 1 + 1) / 3])
    assert reward("paper").item(answer) == pytest.approx([0.5 * 0.5 + 0.5 * score if score >= 0 else -1.0
                                                  for score in control_scores(answer)])  # fmt: skip


def test_a_blends_list_control_is_the_mean_of_equation_4() -> None:
    answer = blended(("positive", "ioi", None), ("at_least", "iii", 50), ("negative", "ooi", None), k=4)
    expected = (1 / math.log2(4) + 1 / math.log2(2) + 1 / math.log2(4)) / 3  # off by 2, 0 and 4 - 2
    preference = sum(positioned_scores(answer))
    for name in ("paper", "paper_literal"):
        assert reward(name).list(answer) == pytest.approx(0.5 * preference + 0.5 * expected)
    released = (1 / (4 - 2 + 1) + 1 + 1 / (4 - 2 + 1)) / 3
    best = sum(1 / math.log2(place + 2) ** 2 for place in range(4))
    assert reward("released").list(answer) == pytest.approx(0.5 * preference / best + 0.5 * released)


@pytest.mark.parametrize(("task", "answer", "k", "percent", "expected"), ALGORITHM_1)
@pytest.mark.parametrize("scheme", READINGS)
def test_a_blend_of_one_condition_earns_what_the_condition_earns(
    task: str, answer: str, k: int, percent: int | None, expected: list[float], scheme: str
) -> None:
    alone = judged(task, answer.replace("h", "x"), k, percent)
    one = blended((kind_of(control_of(task)), answer.replace("h", "x"), percent), k=k)
    assert reward(scheme).item(one) == reward(scheme).item(alone)
    assert reward(scheme).list(one) == reward(scheme).list(alone)
