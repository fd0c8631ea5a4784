"""The three sentences say what the numbers carry, and no more."""

from collections.abc import Mapping
from typing import Any

from ctrlrec.reporting.comparisons import Comparison
from ctrlrec.reporting.page.answer import answer
from ctrlrec.reporting.page.material import Material
from ctrlrec.reporting.rows import Row

Numbers = Mapping[tuple[str, str], tuple[float, float, float]]  # {(setting, metric): (low, value, high)}

FOLLOWS: Numbers = {
    ("sequential", "HR@10"): (0.10, 0.12, 0.14),
    ("category_positive", "TCP@10"): (0.90, 0.95, 0.97),
    ("category_positive", "TCP@10_free"): (0.20, 0.25, 0.30),
    ("category_negative", "TCP@10"): (0.02, 0.05, 0.08),
    ("category_negative", "TCP@10_free"): (0.40, 0.45, 0.50),
    ("about_30", "CPA"): (0.50, 0.60, 0.70),
    ("about_30", "CPA_free"): (0.30, 0.35, 0.40),
}


def settings(numbers: Numbers) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for (setting, metric), (low, value, high) in numbers.items():
        found.setdefault(setting, {})[metric] = {"low": low, "value": value, "high": high, "n": 100, "p": 0.5}
    return found


def row(name: str, numbers: Numbers, seeds: tuple[int, ...] = (0,)) -> Row:
    return Row(name, settings(numbers), seeds)


def against(better: str, worse: str, numbers: Numbers) -> Comparison:
    cells = settings(numbers)
    return Comparison(better, worse, {0: cells}, cells, 0.95)


def sentences(rows: list[Row], comparisons: list[Comparison] | None = None) -> list[str]:
    return [sentence.text for sentence in answer(Material("made up", [], rows, comparisons or []))]


def repeats(low: float, value: float, high: float) -> Numbers:
    return {("sequential", "RepeatItem@K"): (low, value, high), ("sequential", "HR@10"): (-0.02, 0.01, 0.04)}


def test_a_row_that_follows_every_wish_has_been_taught_control() -> None:
    taught, _, _ = sentences([row("v2", FOLLOWS, (0, 1))])
    assert taught == (
        "SL teaches control, and v2 (2 seeds) follows every wish: the category's share of a list is 95.0% for “more of "
        "a category” (25.0%) and 5.0% for “none of a category” (45.0%); the share of lists that keep the "
        "proportion is 60.0% for “about 30%” (35.0%); in parentheses when not asked."
    )


def test_an_interval_that_meets_the_unasked_one_is_not_control() -> None:
    unsure = {**FOLLOWS, ("about_30", "CPA"): (0.38, 0.60, 0.70)}
    taught, _, _ = sentences([row("v2", unsure)])
    assert taught.startswith("SL teaches most of control, and v2 follows every wish but “about 30%”: ")
    little = {**unsure, ("category_positive", "TCP@10"): (0.28, 0.35, 0.40)}
    assert sentences([row("v2", little)])[0].startswith("SL teaches little of control, and v2 follows 1 of 3 wishes: ")
    # More of a category that is not wanted is not control, however sure.
    opposite = {**little, ("category_negative", "TCP@10"): (0.80, 0.90, 0.95)}
    assert sentences([row("v2", opposite)])[0].startswith("SL has not taught control, because v2 does no better when")


def test_the_row_without_control_stands_beside() -> None:
    plain = {place: bounds for place, bounds in FOLLOWS.items() if not place[1].endswith("_free")}
    taught, _, _ = sentences([row("v1", plain), row("v2", FOLLOWS)])
    assert taught.endswith("when not asked; v1, fine-tuned without control, has 95.0%, 5.0% and 60.0%.")
    taught, _, _ = sentences([row("v1", plain)])
    assert taught == "No row here was fine-tuned on control without RL, so these results do not show what SL teaches."


def test_what_rl_removes_needs_an_interval_without_0() -> None:
    rows = [row("v2", FOLLOWS), row("full", FOLLOWS)]
    _, removed, _ = sentences(rows, [against("full", "v2", repeats(-0.15, -0.10, -0.05))])
    assert removed == (
        "RL removes repeats: full repeats fewer items than v2 beyond the interval in 1 of 1 settings (nothing asked "
        "−10.0 points [−15.0, −5.0]; 0 of them after Holm's correction over all comparisons)."
    )
    sure = against("full", "v2", repeats(-0.15, -0.10, -0.05))
    sure.settings["sequential"]["RepeatItem@K"]["p"] = 0.001
    assert "; 1 of them after Holm's correction" in sentences(rows, [sure])[1]
    _, removed, _ = sentences(rows, [against("full", "v2", repeats(-0.15, -0.05, 0.05))])
    assert removed.startswith("RL removes no repeats that the intervals would show: full is within the interval of v2")
    _, removed, _ = sentences(rows, [against("full", "v2", repeats(0.05, 0.10, 0.15))])
    assert removed.startswith("RL adds repeats: full repeats more items than v2")


def test_what_rl_does_to_control_is_counted() -> None:
    moved = {**repeats(-0.15, -0.10, -0.05), ("category_negative", "TCP@10"): (0.01, 0.02, 0.03),
             ("about_30", "CPA"): (0.01, 0.02, 0.03)}  # fmt: skip
    _, removed, _ = sentences([row("v2", FOLLOWS), row("full", FOLLOWS)], [against("full", "v2", moved)])
    assert removed.endswith("; of 2 measures of control 1 are better and 1 worse beyond the interval.")


def test_repeats_that_move_both_ways_are_told_as_such() -> None:
    both = {**repeats(-0.15, -0.10, -0.05), ("about_30", "RepeatItem@K"): (0.05, 0.10, 0.15)}
    _, removed, _ = sentences([row("v2", FOLLOWS), row("full", FOLLOWS)], [against("full", "v2", both)])
    assert removed.startswith(
        "RL moves repeats both ways: of 2 settings full repeats fewer items than v2 in 1 and more"
    )


def test_the_cost_is_a_difference_with_its_interval() -> None:
    rows = [row("sasrec", {("sequential", "HR@10"): (0.15, 0.17, 0.19)}), row("v2", FOLLOWS), row("full", FOLLOWS)]

    def cost(low: float, value: float, high: float) -> str:
        found = {("sequential", "HR@10"): (low, value, high)}
        return sentences(rows, [against("full", "v2", found)])[2]

    assert cost(-0.02, 0.01, 0.04) == (
        "No cost in accuracy shows, because the interval holds 0: when nothing is asked, HR@10 of full differs from v2 "
        "by +1.0 points [−2.0, +4.0] (full 12.0% [10.0, 14.0], v2 12.0% [10.0, 14.0], sasrec 17.0% [15.0, 19.0])."
    )
    assert cost(-0.05, -0.04, -0.03).startswith("RL costs accuracy: ") and "−4.0 points [−5.0, −3.0]" in cost(
        -0.05, -0.04, -0.03
    )
    assert cost(0.01, 0.02, 0.03).startswith("RL adds accuracy: ")


def test_rows_that_are_missing_are_said_to_be_missing() -> None:
    taught, removed, cost = sentences([row("sasrec", {("sequential", "HR@10"): (0.1, 0.2, 0.3)})])
    assert "do not show what SL teaches" in taught
    assert removed == "No row here was trained with RL, so these results do not show what RL removes."
    assert cost == "No row here that follows control was asked without one, so its cost in accuracy is not shown."
    _, removed, cost = sentences([row("full", FOLLOWS)])
    assert removed == "No row with RL can be compared with its model before RL here, so what RL removes is not shown."
    assert cost.endswith("when nothing is asked, HR@10 is full 12.0% [10.0, 14.0].")
    _, removed, _ = sentences(
        [row("v2", FOLLOWS), row("full", FOLLOWS)], [against("full", "v2", {("general", "MMLU"): (0, 0, 0)})]
    )
    assert removed == "full and v2 share no setting that shows repeats."


def test_full_against_v2_is_told_before_other_pairs() -> None:
    pairs = [against("v3", "v2", repeats(0.05, 0.1, 0.2)), against("full", "v3", repeats(0.05, 0.1, 0.2)),
             against("full", "v2", repeats(-0.15, -0.10, -0.05))]  # fmt: skip
    rows = [row(name, FOLLOWS) for name in ("v2", "v3", "full")]
    assert "full repeats fewer items than v2" in sentences(rows, pairs)[1]
    assert "v3 repeats more items than v2" in sentences(rows[:2], pairs[:1])[1]
