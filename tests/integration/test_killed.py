"""A run that was killed at any moment and started again ends like one that was not."""

import json
import re
import signal
import time
from collections import Counter
from pathlib import Path

import killing
import pytest
import tiny_run


def survive(sweep, output: Path, folder: Path, targets: list[str], seed: int = 0) -> Counter[str]:
    """Kill at the targets, finish, compare with the sweep; how many kills met each stage."""
    arguments = ["variant=full", *sweep.arguments(output)]
    hit = Counter(killing.kills(arguments, output, folder, targets, killing.seconds(sweep.output), seed))
    # The sweep made v2 as well, whose evaluation and column in the tables this run leaves out.
    assert not [
        name for name in killing.differing(output, sweep.output) if "-v2-" not in name and "tables/" not in name
    ]
    left = [path.name for path in output.rglob("*")]
    assert not [name for name in left if name.endswith((".partial", ".tmp")) or name in ("checkpoints", "answered")]
    for stage in killing.STAGES:
        assert tiny_run.only(output / stage, "*-full-????????????" if stage == "evaluate" else "*-????????????")
    return hit


def test_kills_in_training_publishing_and_evaluation(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data", "teacher", "instructions")
    met = survive(sweep, output, tmp_path, ["sl", "rl", "rl!", "evaluate"])
    assert sum(met.values()) >= 3, met


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_kills_in_every_stage(sweep, tmp_path: Path, seed: int) -> None:
    """Up to twelve a seed: a kill that came after the publishing of its stage leaves that moment out."""
    targets = [target for stage in killing.STAGES for target in (stage, f"{stage}!")]
    met = survive(sweep, tmp_path / "runs", tmp_path, targets, seed)
    assert sum(met.values()) >= 9, met


def stopped(sweep, output: Path, folder: Path, stage: str, stop: signal.Signals, **changed: object) -> str:
    """Stop a run in a stage, after its first checkpoint where it writes any; what it printed."""
    process = tiny_run.start([f"stage={stage}", "variant=full", *sweep.arguments(output, **changed)], folder / "log")
    try:
        assert killing.wait_for_stage(process, folder / "log", stage)
        deadline = time.monotonic() + 240
        while stage in ("sl", "rl") and not list(output.glob(f"{stage}/*.partial/checkpoints/last.ckpt")):
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.01)
        process.send_signal(stop)
        assert process.wait(timeout=120) == 128 + stop
    finally:
        process.kill()
        process.wait()
    return (folder / "log").read_text()


@pytest.mark.parametrize("stop", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stopped_run_leaves_cleanly_and_goes_on(sweep, copy_of, tmp_path: Path, stop: signal.Signals) -> None:
    output = copy_of("data", "teacher", "instructions", "sl")
    printed = stopped(sweep, output, tmp_path, "rl", stop)
    assert printed.splitlines()[-1].startswith("interrupted; the same command resumes") and "Traceback" not in printed
    assert not list(output.rglob("*.tmp"))
    again = tiny_run.run(["stage=rl", "variant=full", *sweep.arguments(output)], tmp_path / "again")
    assert re.search(r"rl +resume ", again)
    assert not [name for name in killing.differing(output, sweep.output) if name.startswith("rl/")]
    made = json.loads((tiny_run.only(output / "rl", "*-????????????") / "provenance.json").read_text())
    assert [attempt["git_commit"] for attempt in made["earlier_attempts"]] == [made["git_commit"]]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", ["sl", "evaluate"])
def test_a_stopped_run_closes_weights_and_biases(
    sweep, copy_of, tmp_path: Path, stage: str, stop: signal.Signals
) -> None:
    from test_tracking import records_of

    needed = killing.STAGES[: killing.STAGES.index(stage)]
    output = copy_of(*needed)
    stopped(sweep, output, tmp_path, stage, stop, logger="offline")
    for file in output.rglob("offline-run-*/run-*.wandb"):
        (closed,) = [record.exit for record in records_of(file) if record.WhichOneof("record_type") == "exit"]
        assert closed.exit_code == 1
