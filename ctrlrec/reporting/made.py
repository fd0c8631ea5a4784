"""How a row was made: the entries of ``rows.json``, and commands without the places of one machine."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

from ctrlrec.config.split import data_label
from ctrlrec.reporting.aggregate import Result
from ctrlrec.runtime.provenance import how_made

Made = dict[str, Any]  # an entry of rows.json

# Sections that decide no number of a row.
_NOT_DECIDING = ("output", "cache", "hydra", "logger", "trainer", "cases", "stage", "seed", "stale")


def made(result: Result) -> Made:
    """Return a row of the tables, complete: how it was made, and all its numbers."""
    settings = result.metrics["settings"]
    cells = [cell for name, metrics in settings.items() if name != "general" for cell in metrics.values()]
    stages = {}
    for stage in result.upstream:
        directory = result.input(stage)
        before = how_made(directory) if (directory / "provenance.json").exists() else {}  # a model may be gone by now
        stages[stage] = {key: before.get(key) for key in ("git_commit", "hardware", "wall_seconds", "earlier_attempts")}
    return {
        "row": result.name,
        "result": result.directory.name,
        "dataset": data_label(result.config["dataset"]),
        "confidence": result.config["evaluation"]["confidence"],
        "n": max((cell["n"] for cell in cells), default=0),
        **how_made(result.directory),
        "seed": result.seed,
        **({"run_seed": result.run_seed} if result.own_rl_seed else {}),
        "stages": stages,
        "config": {name: section for name, section in result.config.items() if name not in _NOT_DECIDING},
        "settings": settings,
    }


def run_seed(entry: Made) -> int:
    """Return the seed of an entry's whole run, from which only that of its RL may differ."""
    seed: int = entry["run_seed"] if "run_seed" in entry else entry["seed"]
    return seed


def public_command(command: str) -> str:
    """Return a command line without folders of the machine that it ran on."""
    try:
        words = shlex.split(command)
    except ValueError:  # a secret that was cut out took a quote with it
        words = command.split()
    words = [word for word in words if not word.startswith(("output=", "cache="))]
    return shlex.join(re.sub(r"=[/~].*/", "=path/to/", word) for word in words)


def results_of(tables: Path) -> list[Path]:
    """Return the evaluations that a folder of tables was made of; nothing unless all of them are still there.

    Args:
        tables: folder of ``runs/tables`` with a ``rows.json``.
    """
    rows = json.loads((tables / "rows.json").read_text(encoding="utf-8"))
    found = [tables.absolute().parents[1] / "evaluate" / row.get("result", "") for row in rows]
    return found if all((path / "metrics.json").exists() for path in found) else []
