"""Differences over seeds, what is marked in them, and the entries that they are kept as."""

import json
import re

import pytest
from evaluations import write_evaluation

from ctrlrec.config.compose import compose
from ctrlrec.reporting.aggregate import read_results
from ctrlrec.reporting.comparisons import comparison_grid, comparisons, pooled
from ctrlrec.reporting.render import markdown

RIGHT, WRONG = ("Clerks", "E.T.", "Fargo"), ("E.T.", "Fargo", "Jaws")


def entry(seed, settings, better="full", worse="v2"):
    return {"better": better, "worse": worse, "seed": seed, "confidence": 0.95, "settings": settings}


def cell(value, low, high, **more):
    return {"value": value / 100, "low": low / 100, "high": high / 100, "n": 300, **more}


def test_an_effect_that_changes_sign_between_seeds_is_not_beyond_chance():
    """+9.3, -3.0 and +8.7 points: +5.0, and with the seeds' spread about [-13, +23]."""
    seeds = [cell(9.3, 3.3, 15.3), cell(-3.0, -9.7, 4.0), cell(8.7, 2.0, 15.3)]
    (pair,) = pooled([entry(seed, {"about_30": {"CPA": found}}) for seed, found in enumerate(seeds)])
    found = pair.row.cell("about_30", "CPA")
    assert found["value"] == pytest.approx(0.05)
    assert (100 * found["low"], 100 * found["high"]) == pytest.approx((-12.7, 22.7), abs=0.8)
    assert 0.3 < found["p"] < 0.5
    text = markdown(comparison_grid([pair]))
    assert "| +5.0 <sub>" in text and "full - v2 (3 seeds)" in text


def test_the_spread_of_the_seeds_is_in_the_comparisons_of_a_run(tmp_path):
    """Of 40 users full is right for 30, 15 and 30 with three seeds, v2 for 20 with each."""
    rows = []
    for seed, right in enumerate((30, 15, 30)):
        for name, count in (("full", right), ("v2", 20)):
            config = compose(f"output={tmp_path}", f"variant={name}", f"seed={seed}")

            def answer(setting, user, count=count):
                return RIGHT if user < count else WRONG

            directory = f"{name}{seed}"
            rows.append(write_evaluation(tmp_path, directory, config, answer, settings=("sequential",), users=40))
    (pair,) = comparisons(read_results(rows), 500, 0.95, 0)
    found = pair.row.cell("sequential", "HR@10")
    assert found["value"] == pytest.approx(0.125)
    apart = [pair.by_seed[seed]["sequential"]["HR@10"] for seed in range(3)]
    assert [each["value"] for each in apart] == pytest.approx([0.25, -0.125, 0.25])
    student = 4.302653 * 0.125  # of three seeds with a standard error of an eighth
    assert found["low"] < 0.125 - student and 0.125 + student < found["high"] < 0.125 + student + 0.1
    kept = pooled(json.loads(json.dumps(pair.records())))
    assert [(each.better, each.worse, list(each.by_seed)) for each in kept] == [("full", "v2", [0, 1, 2])]
    again = kept[0].row.cell("sequential", "HR@10")
    assert again["value"] == pytest.approx(found["value"])
    assert again["low"] <= found["low"] and again["high"] >= found["high"]  # each seed's users weigh in full


def grid_of(values):
    """One pair and seed; each value's interval reaches one point to either side."""
    metrics = dict(zip(("HR@10", "NDCG@10", "CorrectCount", "RepeatItem@K", "NonExist@K"), values, strict=False))
    cells = {name: cell(value, value - 1, value + 1) for name, value in metrics.items()}
    return comparison_grid(pooled([entry(0, {"sequential": cells})]))


def test_what_is_marked_survives_holms_correction():
    grid = grid_of((1.1, -3.0, 0.5, -3.0, 3.0))
    marked = {labels[1].split()[0]: cells[0].mark for labels, cells in grid.rows}
    assert marked == {
        "HR@10": "",  # its interval leaves 0 out, but of five cells one may do so by chance
        "NDCG@10": "second", "CorrectCount": "", "RepeatItem@K": "best", "NonExist@K": "second",
    }  # fmt: skip
    assert grid.rows[0][1][0].interval == "[+0.1, +2.1]"
    said = re.search(r"Of these (\d+) intervals about (\d+) would leave out 0 by chance alone, (\d+) do", grid.caption)
    assert [int(number) for number in said.groups()] == [5, 0, 4]
    assert grid.caption.endswith("Holm's correction over all 5, which leaves 3.")


def test_all_pairs_of_a_page_are_corrected_together():
    sure = {"sequential": {"HR@10": cell(1.3, 0.1, 2.5)}}
    alone = comparison_grid(pooled([entry(0, sure)]))
    assert alone.rows[0][1][0].mark == "best"
    many = comparison_grid(pooled([entry(0, sure), entry(0, sure, "v3"), entry(0, sure, "v3", "v1")]))
    assert [shown.mark for shown in many.rows[0][1]] == ["", "", "", ""]


def test_a_note_goes_with_its_number():
    found = pooled([
        entry(0, {"sequential": {"HR@10": cell(1, 0, 2, note="rounded")}}),
        entry(1, {"sequential": {"HR@10": cell(1, 0, 2)}}),
    ])  # fmt: skip
    grid = comparison_grid(found)
    assert grid.notes == ("a: rounded",) and grid.rows[0][1][0].note == "a"


def test_a_metric_that_some_seed_lacks_is_left_out():
    both = {"HR@10": cell(1, 0, 2), "NDCG@10": cell(1, 0, 2)}
    found = pooled([entry(0, {"sequential": both}), entry(1, {"sequential": {"HR@10": cell(1, 0, 2)}})])
    assert list(found[0].settings["sequential"]) == ["HR@10"]


def test_rows_are_compared_under_one_constraint_or_with_and_without_it(tmp_path):
    rows = []
    for variant in ("full", "v2"):
        for words in ([], ["constraint=fresh"], ["constraint=fresh", "rl.constrained=true"]):
            if variant == "v2" and len(words) == 2:
                continue
            config = compose(f"output={tmp_path}", f"variant={variant}", *words)
            directory = f"{variant}{len(words)}"
            rows.append(write_evaluation(tmp_path, directory, config, lambda *_: RIGHT, settings=("sequential",)))
    pairs = {(pair.better, pair.worse) for pair in comparisons(read_results(rows), 50, 0.95, 0)}
    assert pairs == {
        ("full", "v2"), ("full+fresh", "v2+fresh"), ("full+fresh+rl", "v2+fresh"),
        ("full+fresh", "full"), ("full+fresh+rl", "full"), ("full+fresh+rl", "full+fresh"), ("v2+fresh", "v2"),
    }  # fmt: skip
