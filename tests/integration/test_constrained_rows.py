"""Rows with and without a constraint in one sweep: what they share, what they are called, and what holds of them."""

import json
from pathlib import Path

import pytest
from tiny_run import happened, read_lines, run, settings, write_records

TRAINED = {"rl__item_count_min": 6, "rl__prompts": 4, "rl__guided_row": "control"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The row ``full``, its RL guided, under none, fresh and control, asked for lists that every user can be given."""
    folder = tmp_path_factory.mktemp("constrained")
    write_records(folder / "data")
    asked = "[sequential,category_positive,at_most_20,about_30,blend_2,formatting]"
    words = settings(
        folder / "data", folder / "runs", evaluation__item_count=4, evaluation__users=12,
        evaluation__settings=asked, evaluation__formatting_item_counts="[11,12]", **TRAINED,
    )  # fmt: skip
    return folder / "runs", run(["-m", "variant=full", "constraint=none,fresh,control", *words], folder / "log")


def metrics(output: Path, name: str) -> dict:
    (found,) = (output / "evaluate").glob(f"*-{name}-????????????")
    return json.loads((found / "metrics.json").read_text())["settings"]


def test_a_constraint_on_answers_reuses_what_was_trained(sweep: tuple[Path, str]) -> None:
    _, printed = sweep
    stages = [stage for stage, what in happened(printed) if what == "run"]
    assert stages.count("evaluate") == 3
    assert all(stages.count(stage) == 1 for stage in ("data", "teacher", "sl", "rl"))


def test_rl_learns_from_guided_answers_beside_free_ones(sweep: tuple[Path, str]) -> None:
    output, _ = sweep
    (found,) = (output / "rl").glob("*-????????????")
    rows = read_lines(found / "rollouts.jsonl")
    assert [row.get("guided", False) for row in rows] == [False, False, True] * 16
    for row in rows[2::3]:
        assert len(row["items"]) == row["item_count"] and not any(row["illegal"])
    assert any(any(row["illegal"]) for row in rows if not row.get("guided"))


def test_constrained_rows_have_names_of_their_own(sweep: tuple[Path, str]) -> None:
    output, _ = sweep
    (tables,) = (path for path in (output / "tables").iterdir() if path.is_dir())
    rows = {row["row"] for row in json.loads((tables / "rows.json").read_text())}
    assert rows == {"full", "full+fresh", "full+control"}
    pairs = {(entry["better"], entry["worse"]) for entry in json.loads((tables / "comparisons.json").read_text())}
    assert pairs == {("full+fresh", "full"), ("full+control", "full")}


def test_nothing_is_invented_repeated_or_of_the_history(sweep: tuple[Path, str]) -> None:
    output, _ = sweep
    for name in ("full-fresh", "full-control"):
        (found,) = (output / "evaluate").glob(f"*-{name}-????????????")
        for row in read_lines(found / "predictions.jsonl"):
            assert row["titles"] == row["items"] and len(set(row["items"])) == len(row["items"]) == row["item_count"]
            assert not set(row["items"]) & set(row["history"])
        formatting = metrics(output, name)["formatting"]
        assert [formatting[metric]["value"] for metric in ("NonExist@K", "RepeatItem@K", "InHistory@K")] == [0, 0, 0]
        assert formatting["CorrectCount"]["value"] == 1


def test_control_satisfies_everything_that_is_asked(sweep: tuple[Path, str]) -> None:
    output, _ = sweep
    found = metrics(output, "full-control")
    assert found["category_positive"]["TCP@10"]["value"] == 1
    assert found["at_most_20"]["CPA"]["value"] == found["about_30"]["CPA"]["value"] == 1
    assert found["blend_2"]["all_satisfied"]["value"] == 1
    assert metrics(output, "full-fresh")["blend_2"]["all_satisfied"]["value"] < 1


def test_an_impossible_demand_is_refused_before_anything_is_answered(sweep: tuple[Path, str], tmp_path: Path) -> None:
    output, _ = sweep
    words = settings(
        output.parent / "data", output, evaluation__item_count=20, evaluation__users=12,
        evaluation__settings="[sequential,category_positive]", evaluation__formatting_item_counts="[11,12]", **TRAINED,
    )  # fmt: skip
    with pytest.raises(AssertionError, match=r"evaluation\.settings=category_positive, user u\d+: .*of 20 items"):
        run(["variant=full", "constraint=control", *words], tmp_path / "log")
