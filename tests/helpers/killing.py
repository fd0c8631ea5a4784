"""Kills tiny runs at random moments of every stage, runs them again, and compares what they leave bit by bit."""

import csv
import json
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import tiny_run

STAGES = ("data", "teacher", "instructions", "sl", "rl", "evaluate")
_UNCOMPARED = ("logs", "wandb")  # of every attempt, with their times
_DEADLINE = 600  # seconds that a starved machine may take for one step


def results(output: Path) -> dict[str, bytes]:
    """Content of every file of every result and table, as far as it does not tell of time and place."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output)
        if path.is_dir() or path.suffix == ".lock" or set(name.parts) & set(_UNCOMPARED):
            continue
        # How each was made, with its seconds; attempts of the logs.
        if path.name in ("provenance.json", "rows.json") or path.name.startswith("curves-"):
            continue
        content = path.read_bytes()
        if path.name == "files.json":
            content = json.dumps({k: v for k, v in json.loads(content).items() if k != "provenance.json"}).encode()
        found[name.as_posix()] = content
    return found


def differing(left: Path, right: Path) -> list[str]:
    """Names of files that only one of two outputs has, or that differ."""
    ours, theirs = results(left), results(right)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def seconds(output: Path) -> dict[str, float]:
    """How long each stage of a finished run took."""
    found: dict[str, float] = {}
    for path in output.glob("*/*/provenance.json"):
        found[path.parts[-3]] = json.loads(path.read_text(encoding="utf-8"))["wall_seconds"]
    return found


def stages_made(log: Path) -> list[str]:
    """The stages that a run has begun to make, the one at work last."""
    text = log.read_text(encoding="utf-8", errors="replace")
    return re.findall(r"^[\d:]{8}  (\w+) +(?:run|resume) ", text, re.MULTILINE)


def wait_for_stage(process, log: Path, stage: str) -> bool:
    """Whether the run came to the stage; False where it ended before."""
    deadline = time.monotonic() + _DEADLINE
    while stage not in stages_made(log):
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return True


def wait_for_publishing(process, output: Path, stage: str, seconds: float = _DEADLINE) -> bool:
    """Whether the stage is about to be published, or was a moment ago; False where the run or the time ended before."""
    before = set((output / stage).glob("*/files.json"))
    deadline = time.monotonic() + seconds
    while set((output / stage).glob("*/files.json")) == before:
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True


def lost_work(output: Path) -> None:
    """What a killed RL or SL stage has done and not saved is less than one iteration or validation interval."""
    import torch

    for rollouts in output.glob("rl/*.partial/rollouts.jsonl"):
        rows = [json.loads(line) for line in rollouts.read_text(encoding="utf-8").split("\n")[:-1]]
        done = sum(count == 6 for count in Counter(row["iteration"] for row in rows).values())
        checkpoint = rollouts.parent / "checkpoints" / "last.ckpt"
        saved = torch.load(checkpoint, weights_only=True)["iterations"] if checkpoint.exists() else 0
        assert done - saved <= 1, f"{done} iterations were done and {saved} saved"
    for logs in output.glob("sl/*.partial/logs"):
        steps = [row["step"] for path in logs.glob("attempt_*/metrics.csv") for row in csv.DictReader(path.open())]
        done = max((int(step) + 1 for step in steps if step), default=0)
        checkpoint = logs.parent / "checkpoints" / "last.ckpt"
        saved = torch.load(checkpoint, weights_only=True)["global_step"] if checkpoint.exists() else 0
        assert done - saved <= 2, f"{done} steps were done and {saved} saved; an interval has 2"


def kills(
    arguments: list[str], output: Path, folder: Path, targets: list[str], duration: dict[str, float], seed: int
) -> Iterator[str]:
    """Kill a run once per target, each time continuing with what the last kill left; then let it end.

    Args:
        arguments: of the command line.
        output: of the run.
        folder: for logs.
        targets: a stage, or ``stage!`` for the moment of its publishing; in the order in which stages run.
        duration: seconds that each stage takes.
        seed: of the random moments.

    Yields:
        For every kill that hit, the stage that was at work, with ``!`` where it was being published.
    """
    rng = random.Random(seed)
    for number, target in enumerate(targets):
        stage = target.rstrip("!")
        if list((output / stage).glob("*-????????????")):  # the last kill came too late for this one
            continue
        log = folder / f"log{number}"
        process = tiny_run.start(arguments, log)
        try:
            if target.endswith("!"):
                reached = wait_for_publishing(process, output, stage)
                time.sleep(rng.uniform(0, 0.004))
            else:
                reached = wait_for_stage(process, log, stage)
                wait_for_publishing(process, output, stage, 0.8 * rng.uniform(0, duration[stage]))
        finally:
            killed = process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
        lost_work(output)
        if killed and reached:
            yield target if target.endswith("!") else stages_made(log)[-1]
    tiny_run.run(arguments, folder / "log")
