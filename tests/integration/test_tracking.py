"""Weights & Biases without a network: offline run directories that are closed."""

import json
from pathlib import Path

import pytest
import tiny_run


def records_of(file: Path) -> list:
    """Records of an offline run, in order."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store, found = DataStore(), []
    store.open_for_scan(str(file))
    while data := store.scan_data():
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        found.append(record)
    return found


@pytest.mark.slow
def test_an_offline_evaluation_leaves_a_closed_run_with_every_metric(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data", "teacher", "sl", "instructions")
    tiny_run.run(["variant=v2", *sweep.arguments(output, logger="offline")], tmp_path / "log")
    directory = tiny_run.only(output / "evaluate")
    (file,) = directory.rglob("offline-run-*/run-*.wandb")
    records = records_of(file)
    kinds = [record.WhichOneof("record_type") for record in records]
    assert kinds[0] == "header" or "run" in kinds
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
    assert "answers" in summary


def test_csv_alone_leaves_no_wandb_folder(sweep) -> None:
    assert not list(sweep.output.rglob("wandb"))
    assert list(sweep.output.rglob("metrics.csv"))
