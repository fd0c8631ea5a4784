"""``ctrlrec audit``: passes on a finished row, and finds a leak planted in each artefact that training reads."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run

from ctrlrec.app import audit as command
from ctrlrec.app.audit import audit
from ctrlrec.teacher.module import Windows

STAGES = ("data", "teacher", "instructions", "sl", "rl", "evaluate")


@pytest.fixture
def row(copy_of) -> Path:
    return tiny_run.only(copy_of(*STAGES) / "evaluate", "*-full-????????????")


def found(row: Path) -> dict[str, list[str]]:
    """What each check found, those of nothing left out."""
    return {check.name: [str(leak) for leak in check.found] for check in audit(row) if check.found}


def file_of(row: Path, stage: str, name: str) -> Path:
    (path,) = (row.parents[1] / stage).glob(f"*-????????????/{name}")
    return path


def edit(path: Path, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Change line ``number``, from 1, of a JSON Lines file."""
    lines = tiny_run.read_lines(path)
    change(lines[number - 1])
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


def items_of(row: Path, user: str) -> list[str]:
    (items,) = (line["items"] for line in tiny_run.read_lines(file_of(row, "data", "sequences.jsonl"))
                if line["user"] == user)  # fmt: skip
    return items


def asked(row: Path, stage: str, name: str, task: str = "sequential") -> tuple[int, dict[str, Any]]:
    """The first line of a task with its number."""
    return next(
        (number, line)
        for number, line in enumerate(tiny_run.read_lines(file_of(row, stage, name)), 1)
        if line["task"] == task
    )


def test_a_good_row_has_no_leak_and_every_artefact_is_looked_at(row, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ctrlrec audit", str(row)])
    assert command.main() == 0
    printed = capsys.readouterr().out
    names = [line.split(":")[0].split(maxsplit=1) for line in printed.splitlines()[:-1]]
    assert names == [
        ["ok", name]
        for name in ("lineage", "sequences", "catalogue, popularity, trie", "teacher", "instructions", "validation",
                     "labels", "rollouts")
    ]  # fmt: skip
    assert printed.endswith("no leak\n")


@pytest.mark.parametrize("part", ["history", "target"])
@pytest.mark.parametrize(("stage", "name"), [("instructions", "instructions.jsonl"), ("rl", "rollouts.jsonl")])
def test_a_leak_in_questions_is_named(row, monkeypatch, capsys, stage, name, part):
    if stage == "rl":
        folder = row.parents[1] / "rl"
        assert len(list(folder.glob("*-????????????"))) == 1
    number, line = asked(row, stage, name)
    test_item = items_of(row, line["user"])[-1]
    put = (lambda into: into["history"].append(test_item)) if part == "history" else (
        lambda into: into.update(target=test_item))  # fmt: skip
    edit(file_of(row, stage, name), number, put)
    check = name.removesuffix(".jsonl")
    (leak,) = found(row)[check]
    path = file_of(row, stage, name)
    assert leak.startswith(f"{path}:{number}: user {line['user']}, item '{test_item}', in the {part}: held out, number")
    monkeypatch.setattr(sys, "argv", ["ctrlrec audit", str(row)])
    assert command.main() == 1
    printed = capsys.readouterr().out
    assert f"LEAK {check}:" in printed and leak in printed and "no leak" not in printed


def test_a_validation_question_about_the_test_item_is_found(row):
    number, line = asked(row, "instructions", "validation.jsonl")
    test_item = items_of(row, line["user"])[-1]
    edit(file_of(row, "instructions", "validation.jsonl"), number, lambda into: into.update(target=test_item))
    (leak,) = found(row)["validation"]
    assert f"item '{test_item}', in the target: not the validation item of the user" in leak


def test_a_label_that_the_teacher_did_not_choose_is_found(row):
    path = file_of(row, "instructions", "instructions.jsonl")
    number, line = next(
        (number, line)
        for number, line in enumerate(tiny_run.read_lines(path), 1)
        if line["task"] == "sequential" and len(line["labels"]) > 2
        and items_of(row, line["user"])[-1] not in line["labels"]
    )  # fmt: skip
    test_item = items_of(row, line["user"])[-1]
    edit(path, number, lambda into: into["labels"].__setitem__(2, test_item))
    (leak,) = found(row)["labels"]
    assert leak.startswith(f"{path}:{number}: user {line['user']}, item '{test_item}', among the labels, and held out")
    edit(path, number, lambda into: into["label_ranks"].__setitem__(2, None))
    (leak,) = found(row)["labels"]
    assert f"item '{test_item}', among the labels: held out, number" in leak


def test_counts_that_hold_out_nothing_are_found(row):
    path = file_of(row, "data", "catalogue.jsonl")
    count = tiny_run.read_lines(path)[4]["interactions"]
    edit(path, 5, lambda into: into.update(interactions=count + 1))
    (leak,) = found(row)["catalogue, popularity, trie"]
    title = tiny_run.read_lines(path)[4]["title"]
    assert leak.startswith(f"{path}:5: user u") and f"item '{title}', {count + 1} training interactions" in leak


def test_sequences_that_train_on_a_later_item_are_found(row):
    """The test item of the third user moves to the front, so that it becomes a training item."""
    path = file_of(row, "data", "sequences.jsonl")
    line = tiny_run.read_lines(path)[2]
    edit(path, 3, lambda into: into["items"].insert(0, into["items"].pop()))
    (leak, *_) = found(row)["sequences"]
    assert leak == (
        f"{path}:3: user {line['user']}, item '{line['items'][-1]}', among the training items; the source puts it later"
    )


def test_a_missing_source_is_said_and_no_leak(row, sweep, tmp_path, monkeypatch):
    monkeypatch.setattr("ctrlrec.app.audit.prepared_again", command_error)
    (check,) = (check for check in audit(row) if check.name == "sequences")
    assert not check.done and "the source cannot be read: gone" in check.detail


def command_error(*_: Any) -> None:
    from ctrlrec.errors import CtrlRecError

    raise CtrlRecError("gone")


def test_a_teacher_whose_windows_read_too_far_is_found(row, monkeypatch):
    """Windows as they would be with the validation item among them."""
    drawn = Windows.windows

    def too_far(self):
        longer = type("Longer", (), {})()
        longer.offsets, longer.items = self.sequences.offsets, self.sequences.items
        longer.history_length, longer.trained = self.sequences.history_length, self.sequences.trained + 1
        other = Windows(longer, self.padding, self.batch_size, self.seed, self.epoch)
        return drawn(other)

    monkeypatch.setattr(Windows, "windows", too_far)
    leaks = found(row)["teacher"]
    sequences = tiny_run.read_lines(file_of(row, "data", "sequences.jsonl"))
    named = [f"item '{line['items'][-2]}', a window of epoch 0" for line in sequences]
    assert leaks and all(any(name in leak for name in named) for leak in leaks)
    assert all("teacher.safetensors: user u" in leak for leak in leaks)


def test_a_stage_made_from_other_data_is_found(row):
    path = file_of(row, "teacher", "provenance.json")
    record = json.loads(path.read_text())
    record["upstream"]["data"]["made"] = "another"
    path.write_text(json.dumps(record))
    (leak,) = found(row)["lineage"]
    assert leak.startswith(f"{path}: was made from another data than ")
