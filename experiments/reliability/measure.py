"""Figures of reliability: kills survived, inputs fuzzed, faults injected. Writes ``reliability.json`` beside itself.

    python experiments/reliability/measure.py --kills 60

Runs of the tests' tiny configuration are killed at random moments of every stage and of its publishing, started again
and compared, file by file, with a run that nobody disturbed; then the fault and fuzz tests run and are counted.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "integration")]

import killing  # noqa: E402
import tiny_run  # noqa: E402

from ctrlrec.runtime.provenance import circumstances  # noqa: E402

_FAULTS = ("tests/unit/faults", "tests/unit/rl/test_rl_faults.py", "tests/unit/lm/test_adapters.py")
_INPUTS = (
    "tests/unit/data/test_fuzz.py", "tests/unit/lm/test_inert_text.py", "tests/unit/lm/test_parsing.py",
    "tests/unit/evaluation/test_matching.py",
)  # fmt: skip


def survived(folder: Path, wanted: int, seed: int) -> dict:
    """Kill whole runs until so many kills have hit their stage."""
    tiny_run.write_records(folder / "records")
    quiet = folder / "quiet"
    tiny_run.run(["variant=full", *tiny_run.settings(folder / "records", quiet)], folder / "log")
    targets = [target for stage in killing.STAGES for target in (stage, f"{stage}!")]
    hit: Counter[str] = Counter()
    runs = files = 0
    different: list[str] = []
    while sum(hit.values()) < wanted:
        output = folder / f"run{runs}"
        logs = folder / f"logs{runs}"
        logs.mkdir()
        arguments = ["variant=full", *tiny_run.settings(folder / "records", output)]
        hit.update(killing.kills(arguments, output, logs, targets, killing.seconds(quiet), seed + runs))
        different += killing.differing(output, quiet)
        files += len(killing.results(output))
        runs += 1
        print(f"{sum(hit.values())} kills in {runs} runs, {len(different)} files differ", flush=True)
    return {
        "kills": sum(hit.values()),
        "by_stage": dict(sorted(hit.items())),
        "runs": runs,
        "files_compared": files,
        "different": different,
    }


def tested(paths: tuple[str, ...]) -> dict:
    """Run tests; how many passed and, where Hypothesis made them, on how many inputs."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "--hypothesis-show-statistics", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    inputs = sum(map(int, re.findall(r"(\d+) passing, ", done.stdout)))
    return {"exit": done.returncode, **counts, "generated_inputs": inputs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("reliability.json"))
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        kills = survived(Path(scratch), arguments.kills, arguments.seed)
    report = {
        "kills": kills,
        "faults": tested(_FAULTS),
        "hostile_inputs": tested(_INPUTS),
        "command": f"python experiments/reliability/measure.py --kills {arguments.kills} --seed {arguments.seed}",
        **circumstances(),
        "seconds": round(time.monotonic() - started),
        "load": os.getloadavg()[0],
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(kills["different"] or report["faults"]["exit"] or report["hostile_inputs"]["exit"]))


if __name__ == "__main__":
    main()
