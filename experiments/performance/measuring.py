"""Pairs of fresh processes, their ratios, and the history that shows a regression."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ctrlrec.runtime.files import write_text

Run = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """A number that both sides give.

    Attributes:
        key: its name in what a side returns.
        unit: for the table.
        more: whether more of it is better.
        target: the least ratio that was aimed at.
        aim: the number itself that was aimed at.
    """

    key: str
    unit: str
    more: bool = True
    target: float | None = None
    aim: float | None = None


def in_fresh_process(part: str, side: str, sizes: Mapping[str, Any], scratch: Path) -> Run:
    """What one side gives, with its seconds and the peak memory of its process and those that it started."""
    result = scratch / "side.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("bench.py")), "--scratch", str(scratch)]
    command += ["--side", part, side, json.dumps(dict(sizes)), str(result)]
    # Runs of this project keep the memory of freed tensors by themselves; peers are to have that too.
    kept = {"MALLOC_TRIM_THRESHOLD_": "2147483647", "MALLOC_MMAP_THRESHOLD_": "2147483647"}
    subprocess.run(command, check=True, env=kept | os.environ)
    return json.loads(result.read_text(encoding="utf-8"))


def measure(part: ModuleType, sizes: Mapping[str, Any], pairs: int, scratch: Path) -> dict[str, list[Run]]:
    """Runs of every side, A B A B; those that an interrupted measurement left are not made again.

    Args:
        part: a module of ``parts``.
        sizes: what it is asked to do.
        pairs: how often.
        scratch: folder with the runs made so far.
    """
    name = part.__name__.rsplit(".", 1)[-1]
    kept = scratch / "measured" / f"{name}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    record = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if record.get("sizes") != dict(sizes):
        record = {"sizes": dict(sizes), "runs": {side: [] for side in part.SIDES}}
    runs: dict[str, list[Run]] = record["runs"]
    for count in range(1, pairs + 1):
        for side in part.SIDES:
            if len(runs[side]) < count:
                runs[side].append(in_fresh_process(name, side, sizes, scratch))
                write_text(kept, json.dumps(record))
                shown = {key: value for key, value in runs[side][-1].items() if isinstance(value, int | float)}
                print(f"{name} {side} {count}/{pairs}", json.dumps(shown), flush=True)
    return {side: made[:pairs] for side, made in runs.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(metric: Metric, ours: Sequence[Run], peer: Sequence[Run]) -> dict[str, Any]:
    """A metric over pairs of neighbouring runs; a ratio above 1 means that ours is ahead, whichever way is better."""
    row: dict[str, Any] = {
        "metric": metric.key,
        "unit": metric.unit,
        "more_is_better": metric.more,
        "target": metric.target,
        "aim": metric.aim,
        "ours": spread([run[metric.key] for run in ours]),
        "peer": None,
        "ratio": None,
    }
    if peer:
        row["peer"] = spread([run[metric.key] for run in peer])
        pairs = [(our[metric.key], their[metric.key]) for our, their in zip(ours, peer, strict=True)]
        row["ratio"] = spread([our / their if metric.more else their / our for our, their in pairs])
    return row


def history_line(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the history keeps of a measurement: per metric the ratio, without a peer the number itself."""
    numbers = {
        f"{part}/{row['metric']}": round((row["ratio"] or row["ours"])["median"], 4)
        for part, rows in results["parts"].items()
        for row in rows["metrics"]
    }
    return {"date": results["date"], "git_commit": results["git_commit"], "quick": results["quick"],
            "cores": results["hardware"]["cores"], "numbers": numbers}  # fmt: skip


def regressions(
    history: Sequence[Mapping[str, Any]], better: Mapping[str, bool], tolerance: float = 0.15
) -> dict[str, tuple[float, float]]:
    """Numbers of the last line that fell behind the median of earlier lines of the same kind of measurement.

    Args:
        history: lines, oldest first.
        better: per number whether more is better; ratios always are.
        tolerance: share that may be lost to noise.

    Returns:
        Per number (earlier median, now).
    """
    *earlier, last = history
    alike = [line for line in earlier if all(line[key] == last[key] for key in ("quick", "cores"))]
    lost = {}
    for name, now in last["numbers"].items():
        before = [line["numbers"][name] for line in alike if name in line["numbers"]]
        if not before:
            continue
        usual = statistics.median(before)
        if (now < usual * (1 - tolerance)) if better.get(name, True) else (now > usual / (1 - tolerance)):
            lost[name] = (usual, now)
    return lost


def peak_memory() -> int:
    """Bytes: the peak of this process and the largest peak of those that it waited for."""
    import resource

    own = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    # Not ru_maxrss of this process: that is inherited from the one that started it.
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return 1024 * max(int(own), children)


def load() -> float:
    """How many processes wanted a core in the last minute: what else the machine was doing."""
    return os.getloadavg()[0]
