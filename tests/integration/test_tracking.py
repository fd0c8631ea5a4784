"""Weights & Biases without a network: offline run directories that are closed."""

import json
import struct
from pathlib import Path

import pytest
import tiny_run


def records_of(file: Path) -> list:
    """Records of an offline run, in order: a log of blocks of 32 KiB that hold whole records or parts of them."""
    from wandb.proto import wandb_internal_pb2

    data, position, found, parts = file.read_bytes(), 7, [], b""
    assert data.startswith(b":W&B")
    while position + 7 <= len(data):
        if (room := 32768 - position % 32768) < 7:  # a block's end too short for a header
            position += room
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


@pytest.mark.slow
def test_an_offline_evaluation_leaves_a_closed_run_with_every_metric(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data", "teacher", "sl", "instructions")
    tiny_run.run(["variant=v2", *sweep.arguments(output, logger="offline")], tmp_path / "log")
    directory = tiny_run.only(output / "evaluate")
    (file,) = directory.rglob("offline-run-*/run-*.wandb")
    records = records_of(file)
    (closed,) = [record.exit for record in records if record.WhichOneof("record_type") == "exit"]
    assert closed.exit_code == 0
    run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    assert run.project == "ctrlrec" and run.job_type == "evaluate"
    assert set(run.tags) == {"records", "llama_mini", "v2"}
    assert {item.key for item in run.config.update} >= {"seed", "rl", "variant"}
    summary = {}
    for record in records:
        if record.WhichOneof("record_type") == "summary":
            for item in record.summary.update:
                name = item.key or "/".join(item.nested_key)
                summary[name] = json.loads(item.value_json)
    metrics = json.loads((directory / "metrics.json").read_text())["settings"]
    for setting, cells in metrics.items():
        for name, cell in cells.items():
            assert summary[f"{setting}/{name}"] == pytest.approx(cell["value"])
    (table,) = directory.rglob("answers*.table.json")
    assert {"setting", "prompt", "response"} <= set(json.loads(table.read_text())["columns"])


def test_csv_alone_leaves_no_wandb_folder(sweep) -> None:
    assert not list(sweep.output.rglob("wandb"))
    assert list(sweep.output.rglob("metrics.csv"))


@pytest.mark.slow
def test_a_stage_that_fails_closes_its_run_as_failed(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data", "teacher", "instructions")
    arguments = sweep.arguments(output, logger="offline", sl__learning_rate=1e30)
    process = tiny_run.start(["stage=sl", "variant=v2", *arguments], tmp_path / "log")
    assert process.wait(timeout=240) == 1
    printed = (tmp_path / "log").read_text()
    assert "sl.learning_rate" in printed.splitlines()[-1] and "Traceback" not in printed
    (file,) = output.rglob("offline-run-*/run-*.wandb")
    (closed,) = [record.exit for record in records_of(file) if record.WhichOneof("record_type") == "exit"]
    assert closed.exit_code == 1
