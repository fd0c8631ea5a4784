"""Weights & Biases without a network: offline run directories that are closed, and runs that nothing there can end."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run

SPEC = importlib.util.spec_from_file_location("panels", tiny_run.ROOT / "experiments/panels/panels.py")
assert SPEC and SPEC.loader
panels = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(panels)


def parts_of(records: list, kind: str) -> list:
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def the_run(directory: Path) -> list:
    (file,) = directory.rglob("offline-run-*/run-*.wandb")
    return list(panels.records_of(file))


def items(updates: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


@pytest.fixture(scope="module")
def tracked(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished offline sweep, run by a user who has a stray RANK and WANDB_RUN_ID."""
    folder = tmp_path_factory.mktemp("tracked")
    arguments = tiny_run.settings(records, folder / "runs", logger="offline", sl__max_steps=2, rl__iterations=2)
    with (folder / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-m", "ctrlrec", "-m", "variant=v2,full", *arguments], stdout=log, stderr=log, cwd=folder,
            env=tiny_run.environment() | {"RANK": "3", "WANDB_RUN_ID": "mine"},
        )  # fmt: skip
    assert done.returncode == 0, (folder / "log").read_text()
    return folder / "runs"


@pytest.mark.slow
def test_rows_are_rows_and_shared_stages_are_called_by_what_they_are(tracked: Path) -> None:
    """The first row makes the stages that the second shares; each stage knows both from the start."""
    rows = {"teacher": ["v2", "full"], "sl": ["v2", "full"], "rl": ["full"]}
    ids = set()
    for stage, variants in rows.items():
        directory = tiny_run.only(tracked / stage)
        found = the_run(directory)
        (run,) = parts_of(found, "run")[:1]
        assert run.display_name == f"{stage}-{directory.name[:-13]}-seed0" and run.job_type == stage
        assert list(run.tags) == ["records", "llama_mini", *variants]
        config = items(run.config.update)
        assert "variant" not in config and config["variants"] == variants
        made = json.loads((directory / "stage.json").read_text())
        assert {one["stage"]: one["fingerprint"] for one in config["result"]["upstream"]} == made["upstream"]
        (artifact,) = [one for one in parts_of(found, "artifact") if one.type == stage]
        assert artifact.name == directory.name and len(artifact.manifest.contents) == 1
        provenance = json.loads((directory / "provenance.json").read_text())
        assert artifact.manifest.contents[0].ref == f"ctrlrec://{stage}/{directory.name}/{provenance['made']}"
        assert json.loads(artifact.metadata)["upstream"] == config["result"]["upstream"]
        ids.add(run.run_id)
        (metrics,) = directory.glob("logs/attempt_0/metrics.csv")  # a stray RANK would leave none
        assert len(metrics.read_text().splitlines()) > 1
    assert len(ids) == 3 and "mine" not in ids
    for variant in ("v2", "full"):
        (run, *_) = parts_of(the_run(tiny_run.only(tracked / "evaluate", f"*-{variant}-????????????")), "run")
        assert run.display_name == f"{variant}-seed0"
        assert list(run.tags) == ["records", "llama_mini", variant]
        assert items(run.config.update)["variant"]["name"] == variant


@pytest.mark.slow
def test_the_tables_of_a_sweep_are_one_run(tracked: Path) -> None:
    (folder,) = (path for path in (tracked / "tables").iterdir() if path.is_dir())
    found = the_run(folder)  # one run, though both rows ended in tables
    (run, *_) = parts_of(found, "run")
    assert run.job_type == "report" and list(run.tags) == ["records", "llama_mini", "v2", "full"]
    (files,) = folder.glob("wandb/offline-run-*/files/media")
    tables = {path.name.rpartition("_")[0].rpartition("_")[0]: path for path in files.glob("table/*.table.json")}
    assert {"table2", "table3", "table4", "table5", "comparisons", "summary"} <= tables.keys()
    comparison = json.loads(tables["comparisons"].read_text())
    assert comparison["columns"][2:] == ["full - v2", "n"] and len(comparison["data"]) > 10
    assert {row[0] for row in json.loads(tables["table2"].read_text())["data"]} >= {"v2", "full"}
    drawn = {str(path.relative_to(files / "images")).rpartition("_")[0] for path in files.glob("images/*/*.png")}
    wanted = {"curves/sl-v2", "curves/rl-full", "whiskers/sequential", "whiskers/about_30", "differences/full - v2"}
    assert wanted <= {name.rpartition("_")[0] for name in drawn} and "cases" in tables


@pytest.mark.slow
def test_panels_of_the_documentation_are_drawn_from_offline_runs(tracked: Path, tmp_path: Path) -> None:
    made = panels.panels(tracked, tmp_path)
    assert [path.stem for path in made] == ["whiskers", "differences", "lines-sl", "lines-rl"]
    name, history = panels.history_of(next(tiny_run.only(tracked / "rl").rglob("run-*.wandb")))
    assert name.startswith("rl-records-llama_mini") and len(history["reward/total"]) == 2


@pytest.mark.slow
def test_offline_runs_can_be_sent_later(tracked: Path) -> None:
    runs = sorted(tracked.glob("*/*/wandb/offline-run-*"))  # as docs/wandb.md has it
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", "--dry-run", *map(str, runs)], capture_output=True, text=True,
        env=tiny_run.environment(),
    )  # fmt: skip
    assert done.returncode == 0 and f"Would sync {len(runs)} run(s)" in done.stdout + done.stderr


@pytest.mark.slow
def test_an_agent_gets_one_run_and_the_other_stages_their_own(sweep, tmp_path: Path) -> None:
    given = {"WANDB_SWEEP_ID": "sweep1", "WANDB_RUN_ID": "trial1", "WANDB_PROJECT": "theirs"}
    arguments = sweep.arguments(tmp_path / "runs", logger="offline")
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, "-m", "ctrlrec", "stage=sl", "variant=v1", *arguments], stdout=log, stderr=log,
            cwd=tmp_path, env=tiny_run.environment() | given,
        )  # fmt: skip
    assert done.returncode == 0, (tmp_path / "log").read_text()
    (trial, *_) = parts_of(the_run(tiny_run.only(tmp_path / "runs" / "sl")), "run")
    assert (trial.run_id, trial.sweep_id, trial.project) == ("trial1", "sweep1", "theirs")
    (teacher, *_) = parts_of(the_run(tiny_run.only(tmp_path / "runs" / "teacher")), "run")
    assert teacher.run_id != "trial1" and (teacher.sweep_id, teacher.project) == ("", "ctrlrec")


@pytest.mark.slow
def test_an_offline_evaluation_leaves_a_closed_run_with_every_metric(tracked: Path) -> None:
    directory = tiny_run.only(tracked / "evaluate", "*-v2-????????????")
    found = the_run(directory)
    (closed,) = parts_of(found, "exit")
    assert closed.exit_code == 0
    (run, *_) = parts_of(found, "run")
    assert run.project == "ctrlrec" and run.job_type == "evaluate"
    assert items(run.config.update).keys() >= {"seed", "rl", "variant"}
    summary = {}
    for part in parts_of(found, "summary"):
        summary |= items(part.update)
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
    (closed,) = parts_of(the_run(output), "exit")
    assert closed.exit_code == 1


@pytest.fixture
def teacher(sweep, copy_of, tmp_path: Path) -> Callable[..., str]:
    """Trains a teacher with an environment of one's own, and returns what was printed."""

    def run(environment: dict[str, str], **changed: object) -> str:
        output = copy_of("data") if not (tmp_path / "runs").exists() else tmp_path / "runs"
        arguments = sweep.arguments(output, logger="auto", **changed)
        done = subprocess.run(
            [sys.executable, "-m", "ctrlrec", "stage=teacher", *arguments], cwd=tmp_path, capture_output=True,
            text=True, timeout=200, env=tiny_run.environment() | environment,
        )  # fmt: skip
        printed = done.stdout + done.stderr
        assert done.returncode == 0 and "Traceback" not in printed, printed
        tiny_run.only(output / "teacher")
        return printed

    return run


@pytest.mark.slow
def test_a_key_without_a_network_is_one_line_and_an_offline_run(teacher, tmp_path: Path) -> None:
    started = time.monotonic()
    key = {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    printed = teacher(key)
    assert time.monotonic() - started < 90
    (line,) = [line for line in printed.splitlines() if "wandb" in line]
    assert "cannot be reached" in line and "offline" in line
    assert the_run(tmp_path / "runs" / "teacher")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WANDB_API_KEY": "short"}, "cannot be reached"),
        ({"WANDB_MODE": "perhaps"}, "WANDB_MODE=perhaps"),
        ({"WANDB_INIT_TIMEOUT": "soon", "WANDB_TAGS": "x" * 90, "WANDB_DIR": "/proc/none"}, ""),
    ],
    ids=str,
)
def test_odd_variables_end_nothing(teacher, environment: dict[str, str], said: str) -> None:
    assert said in teacher(environment)


@pytest.mark.slow
def test_long_names_are_shortened_for_wandb_alone(sweep, tmp_path: Path) -> None:
    name = "reviews_" * 15  # 120 signs
    arguments = sweep.arguments(tmp_path / "runs", logger="offline", dataset__name=name)
    printed = tiny_run.run(["stage=teacher", *arguments], tmp_path / "log")
    assert "failed" not in printed
    directory = tiny_run.only(tmp_path / "runs" / "teacher")
    assert directory.name.startswith(name)
    (run, *_) = parts_of(the_run(directory), "run")
    assert max(map(len, run.tags)) == 64 and len(run.display_name) == 128 and len(run.run_group) <= 128
    assert not os.environ.get("WANDB_MODE")
