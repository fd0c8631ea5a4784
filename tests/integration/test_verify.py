"""``ctrlrec verify``: passes on a finished row, and says what was altered."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from safetensors.torch import load_file, save_file

from ctrlrec.app import verify as command
from ctrlrec.app.verify import verify
from ctrlrec.runtime.files import record_files

STAGES = ("data", "teacher", "instructions", "sl", "rl", "evaluate")
GRID = tiny_run.ROOT / "experiments" / "movielens_600-llama_nano-ten_minutes"


@pytest.fixture
def row(copy_of) -> Path:
    return tiny_run.only(copy_of(*STAGES) / "evaluate", "*-full-????????????")


@pytest.fixture
def verified(monkeypatch, capsys):
    """Run the command; return its exit status and what it printed."""

    def run(folder: Path) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["ctrlrec verify", str(folder)])
        status = command.main()
        return status, capsys.readouterr().out.splitlines()

    return run


def found(row: Path) -> dict[str, list[str]]:
    return {check.name: [str(one) for one in check.found] for check in verify(row) if check.found}


def first_line(path: Path, change: Any) -> None:
    lines = tiny_run.read_lines(path)
    change(lines[0])
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def test_a_good_row_is_as_it_was_left(row, verified):
    status, printed = verified(row)
    assert status == 0 and printed[-1] == "as it was left"
    assert [line.split(":")[0].split(maxsplit=1)[1] for line in printed[:-1]] == [
        *(f"files of {stage}" for stage in STAGES), "metrics", "answers", "asked again",
    ]  # fmt: skip
    assert all(line.startswith("ok   ") for line in printed[:-1])
    assert printed[-2] == "ok   asked again: 8 users in 7 settings"


def test_an_altered_metric_is_named(row, verified):
    path = row / "metrics.json"
    metrics = json.loads(path.read_text())
    cell = metrics["settings"]["about_30"]["CPA"]
    kept, cell["high"] = cell["high"], cell["high"] + 0.01
    path.write_text(json.dumps(metrics, indent=2))
    record_files(row)  # as one would who hides it
    status, printed = verified(row)
    assert status == 1 and printed[-1] == "1 differences"
    assert f"     about_30 CPA: high is {kept + 0.01} on record and {kept} recomputed" in printed
    assert any(line.startswith("FAIL metrics: ") for line in printed)


def test_an_altered_file_fails_its_checksum(row, verified):
    first_line(row / "predictions.jsonl", lambda line: line.update(prompt=line["prompt"][:-1] + "?"))
    status, printed = verified(row)
    place = printed.index("FAIL files of evaluate: ")
    assert status == 1 and printed[place + 1].startswith(f"     {row / 'predictions.jsonl'}: altered since it was made")


def test_an_altered_prediction_is_found_although_checksums_were_made_anew(row):
    """A response that names the target: it contradicts the items on record, and the model does not give it."""
    first_line(row / "predictions.jsonl", lambda line: line.update(response=f"1. {line['target']}"))
    record_files(row)
    wrong = found(row)
    assert set(wrong) == {"answers", "asked again"}
    assert any(": items is [" in line and "predictions.jsonl:1: setting sequential, user" in line
               for line in wrong["answers"])  # fmt: skip
    (again,) = wrong["asked again"]
    assert again.startswith("setting sequential, user ") and ": response is '1. " in again


def test_a_prediction_that_was_altered_throughout_changes_the_numbers_and_the_answer(row):
    def hit(line: dict[str, Any]) -> None:
        target = line["target"]
        line.update(response=f"1. {target}", titles=[target], items=[target], teacher_rank=line["teacher_rank"][:1])

    first_line(row / "predictions.jsonl", hit)
    record_files(row)
    wrong = found(row)
    assert any(line.startswith("sequential HR@10: value is ") for line in wrong["metrics"])
    assert len(wrong["asked again"]) == 1


def test_altered_weights_fail_their_checksum_and_answer_otherwise(row):
    (weights,) = (row.parents[1] / "rl").glob("*-item-list-*/adapter/actor/*.safetensors")
    tensors = load_file(weights)
    save_file({name: tensor * 40 + 0.5 for name, tensor in tensors.items()}, weights)
    wrong = found(row)
    assert set(wrong) == {"files of rl"} and str(weights) in wrong["files of rl"][0]
    (skipped,) = (check for check in verify(row) if not check.done)
    assert skipped.name == "answers" and "altered" in skipped.detail
    record_files(weights.parents[2])
    wrong = found(row)
    assert set(wrong) == {"asked again"} and ": response is " in wrong["asked again"][0]


def test_what_is_missing_is_said(row, verified):
    shutil.rmtree(next((row.parents[1] / "sl").glob("*-????????????")))
    status, printed = verified(row)
    assert status == 0
    assert sum(line.startswith("-    files of sl: not checked, ") for line in printed) == 1
    assert any(line.startswith("-    answers: not checked, ") and "missing" in line for line in printed)


def test_a_kept_grid_is_rendered_from_its_rows(tmp_path, verified):
    grid = tmp_path / "experiments" / GRID.name
    shutil.copytree(GRID, grid)
    status, printed = verified(grid)
    assert status == 0 and any(line.startswith("ok   tables: ") for line in printed)
    assert any("rows have no result here to recompute them from" in line for line in printed)
    rows = json.loads((grid / "rows.json").read_text())
    cell = rows[-1]["settings"]["sequential"]["HR@10"]
    cell["value"] = cell["high"] + 0.1
    (grid / "rows.json").write_text(json.dumps(rows))
    status, printed = verified(grid)
    assert status == 1
    row = f"row {rows[-1]['row']}, seed {rows[-1]['seed']}"
    assert f"     {row}: sequential HR@10 is not within its interval" in printed
    assert "     table2.md: not what rows.json gives" in printed


def test_rows_of_a_run_are_compared_with_their_results(sweep, tmp_path):
    shutil.copytree(sweep.output / "evaluate", tmp_path / "runs" / "evaluate")
    (tables,) = (folder for folder in (sweep.output / "tables").iterdir() if folder.is_dir())
    copy = tmp_path / "runs" / "tables" / tables.name
    shutil.copytree(tables, copy)
    assert found(copy) == {}
    rows = json.loads((copy / "rows.json").read_text())
    cell = rows[0]["settings"]["about_30"]["CPA"]
    cell["n"] += 1
    (copy / "rows.json").write_text(json.dumps(rows, indent=2))
    wrong = found(copy)
    row = f"row {rows[0]['row']}, seed {rows[0]['seed']}"
    assert wrong["rows"] == [f"{row}: about_30 CPA: n is {cell['n']} on record and {cell['n'] - 1} recomputed"]
