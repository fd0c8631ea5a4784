"""A run that was killed and run again ends like one that was not."""

import signal
import time
from pathlib import Path

import pytest
import tiny_run


def kill_after_first_checkpoint(arguments: list[str], partial: Path, log: Path, delay: float) -> None:
    """Start a run, wait for its first checkpoint and ``delay`` seconds more, and kill it with SIGKILL."""
    process = tiny_run.start(arguments, log)
    try:
        deadline = time.monotonic() + 240
        while not list(partial.glob("*.partial/checkpoints/last.ckpt")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert list(partial.glob("*.partial")) and not list(partial.glob("*-????????????"))


def same_files(left: Path, right: Path, *patterns: str) -> None:
    for pattern in patterns:
        names = sorted(path.relative_to(left) for path in left.glob(pattern))
        assert names and names == sorted(path.relative_to(right) for path in right.glob(pattern))
        for name in names:
            assert (left / name).read_bytes() == (right / name).read_bytes(), name


def resumed(arguments: list[str], stage: str, log: Path) -> None:
    printed = tiny_run.run(arguments, log)
    assert f"{stage:<12} resume " in printed


def check_sl(sweep, output: Path, folder: Path, delay: float) -> None:
    arguments = ["stage=sl", *sweep.arguments(output)]
    kill_after_first_checkpoint(arguments, output / "sl", folder / "killed", delay)
    resumed(arguments, "sl", folder / "again")
    same_files(tiny_run.only(output / "sl"), sweep.result("sl"), "**/*.safetensors", "model/*.json")


def check_rl(sweep, output: Path, folder: Path, delay: float) -> None:
    arguments = ["stage=rl", *sweep.arguments(output)]
    kill_after_first_checkpoint(arguments, output / "rl", folder / "killed", delay)
    resumed(arguments, "rl", folder / "again")
    made = tiny_run.only(output / "rl")
    same_files(made, sweep.result("rl"), "**/*.safetensors", "rollouts.jsonl")
    iterations = [row["iteration"] for row in tiny_run.read_lines(made / "rollouts.jsonl")]
    assert iterations == [number for number in range(4) for _ in range(6)]


def test_sl_killed_and_run_again(sweep, copy_of, tmp_path: Path) -> None:
    check_sl(sweep, copy_of("data", "teacher", "instructions"), tmp_path, 0.1)


def test_rl_killed_and_run_again(sweep, copy_of, tmp_path: Path) -> None:
    check_rl(sweep, copy_of("data", "teacher", "instructions", "sl"), tmp_path, 0.2)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.03, 0.3])
def test_sl_killed_at_other_moments(sweep, copy_of, tmp_path: Path, delay: float) -> None:
    check_sl(sweep, copy_of("data", "teacher", "instructions"), tmp_path, delay)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.5, 0.9])
def test_rl_killed_at_other_moments(sweep, copy_of, tmp_path: Path, delay: float) -> None:
    check_rl(sweep, copy_of("data", "teacher", "instructions", "sl"), tmp_path, delay)


@pytest.mark.slow
def test_rl_killed_before_its_first_checkpoint_starts_over(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data", "teacher", "instructions", "sl")
    arguments = ["stage=rl", *sweep.arguments(output)]
    process = tiny_run.start(arguments, tmp_path / "killed")
    try:
        deadline = time.monotonic() + 240
        while not any(path.stat().st_size for path in (output / "rl").glob("*.partial/rollouts.jsonl")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    resumed(arguments, "rl", tmp_path / "again")
    same_files(tiny_run.only(output / "rl"), sweep.result("rl"), "**/*.safetensors", "rollouts.jsonl")
