"""Results are reused, re-made, refused and shared as their fingerprints say."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import tiny_run

from ctrlrec.config.compose import compose
from ctrlrec.pipeline.run import STAGES, planned


def times(output: Path) -> dict[Path, int]:
    """When every file of every result was last written."""
    return {
        path: path.stat().st_mtime_ns
        for folder in ("data", "teacher", "instructions", "sl", "rl", "evaluate")
        for path in (output / folder).rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def contents(directory: Path, *names: str) -> list[bytes]:
    return [(directory / name).read_bytes() for name in names]


def test_rows_of_a_sweep_share_teacher_and_sl(sweep) -> None:
    made = Counter(stage for stage, what in tiny_run.happened(sweep.printed) if what == "run")
    assert made == {"data": 1, "teacher": 1, "instructions": 1, "sl": 1, "rl": 1, "evaluate": 2}
    for stage in ("data", "teacher", "sl"):
        assert (stage, "reuse") in tiny_run.happened(sweep.printed)
    upstream = [
        json.loads((sweep.result("evaluate", f"*-{variant}") / "stage.json").read_text())["upstream"]
        for variant in ("v2", "full")
    ]
    assert all(upstream[0][stage] == upstream[1][stage] for stage in ("data", "teacher", "sl"))
    assert set(upstream[1]) - set(upstream[0]) == {"rl"}


def test_a_plan_names_what_a_run_makes(sweep) -> None:
    made = {stage: {path.name[-12:] for path in (sweep.output / stage).glob("*-????????????")} for stage in STAGES}
    plans = [
        planned(compose(f"variant={variant}", *map(str, sweep.arguments(sweep.output)))) for variant in ("v2", "full")
    ]
    assert {stage: {plan[stage] for plan in plans if stage in plan} for stage in STAGES} == made


def test_the_same_sweep_again_trains_nothing_and_imports_nothing_heavy(
    sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = times(sweep.output)
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    printed = tiny_run.run(["-m", "variant=v2,full", *sweep.arguments(sweep.output)], tmp_path / "log")
    events = tiny_run.happened(printed)
    assert {what for _, what in events} == {"reuse"}
    assert {stage for stage, _ in events} == {
        "data",
        "teacher",
        "instructions",
        "sl",
        "rl",
        "evaluate",
    }
    assert times(sweep.output) == before
    imported = set(re.findall(r"^import time: .*\|\s+([\w.]+)$", printed, re.MULTILINE))
    assert "ctrlrec.reporting.report" in imported
    # torch says what a precision of auto means here, which is part of a result's name.
    assert not imported & {"transformers", "pytorch_lightning", "scipy.stats", "requests"}


def test_only_what_was_deleted_is_made_again_and_comes_out_the_same(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data", "teacher", "instructions", "sl", "rl", "evaluate")
    before = times(output)
    shutil.rmtree(tiny_run.only(output / "teacher"))
    shutil.rmtree(tiny_run.only(output / "evaluate", "*-v2-????????????"))
    printed = tiny_run.run(["variant=v2", *sweep.arguments(output)], tmp_path / "log")
    assert [stage for stage, what in tiny_run.happened(printed) if what == "run"] == ["teacher", "evaluate"]
    assert {stage for stage, what in tiny_run.happened(printed) if what == "reuse"} == {"data", "instructions", "sl"}
    after = times(output)
    assert {path for path in before if after[path] == before[path]} == {
        path for path in before if path.parts[len(output.parts)] != "teacher" and "-v2-" not in str(path)
    }
    weights = ("model.safetensors", "teacher.json")
    teacher = tiny_run.only(output / "teacher")
    names = [name for name in weights if (teacher / name).is_file()]
    assert names and contents(teacher, *names) == contents(sweep.result("teacher"), *names)
    files = ("metrics.json", "predictions.jsonl")
    made = tiny_run.only(output / "evaluate", "*-v2-????????????")
    assert contents(made, *files) == contents(sweep.result("evaluate", "*-v2"), *files)


def test_a_directory_with_another_configuration_is_refused(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data")
    record = tiny_run.only(output / "data") / "stage.json"
    altered = json.loads(record.read_text())
    altered["settings"]["dataset"]["history_length"] = 7
    for text in (json.dumps(altered), "{"):
        record.write_text(text)
        process = tiny_run.start(["stage=data", *sweep.arguments(output)], tmp_path / "log")
        assert process.wait(timeout=120) == 1
        printed = (tmp_path / "log").read_text()
        assert "Traceback" not in printed
        assert f"error: {record.parent}" in printed and "move the directory away" in printed
    record.unlink()
    process = tiny_run.start(["stage=data", *sweep.arguments(output)], tmp_path / "log")
    assert process.wait(timeout=120) == 1
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_two_processes_at_once_make_each_stage_once_and_stop_where_they_are_told(sweep, tmp_path: Path) -> None:
    arguments = sweep.arguments(tmp_path / "runs")
    first = tiny_run.start(["stage=teacher", *arguments], tmp_path / "first")
    second = tiny_run.start(["stage=teacher", *arguments], tmp_path / "second")
    assert first.wait(timeout=300) == second.wait(timeout=300) == 0
    both = [tiny_run.happened((tmp_path / name).read_text()) for name in ("first", "second")]
    made = Counter(stage for log in both for stage, what in log if what == "run")
    assert made == {"data": 1, "teacher": 1}
    assert Counter(stage for log in both for stage, what in log if what == "reuse") == {"data": 1, "teacher": 1}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"data", "teacher", "logs"}


def test_stage_data_stops_there(sweep, tmp_path: Path) -> None:
    tiny_run.run(["stage=data", *sweep.arguments(tmp_path / "runs")], tmp_path / "log")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"data", "logs"}
    files = ("catalogue.jsonl", "sequences.jsonl", "stage.json")
    assert contents(tiny_run.only(tmp_path / "runs" / "data"), *files) == contents(sweep.result("data"), *files)
