"""What a run shows at its end: tables, summary and figures of all finished rows that belong together."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config
from ctrlrec.data.card import published_as
from ctrlrec.reporting import figures, render
from ctrlrec.reporting.aggregate import Result, aggregate, comparable, read_results
from ctrlrec.reporting.cases import find_cases, write_cases
from ctrlrec.reporting.comparisons import comparison_grid, comparisons
from ctrlrec.reporting.paper import TABLES
from ctrlrec.reporting.summary import summary
from ctrlrec.reporting.tables import build, write_grid, write_tables
from ctrlrec.runtime.files import write_text
from ctrlrec.runtime.provenance import how_made
from ctrlrec.runtime.results import finished

log = logging.getLogger(__name__)

# Sections that decide no number of a row.
_NOT_DECIDING = ("output", "cache", "hydra", "logger", "trainer", "cases", "stage", "seed", "stale")


def report(config: Config, directory: Path, outdated: Callable[[Path], str] = lambda _: "") -> Path:
    """Write and print tables and summary of this evaluation and its finished siblings, and draw its learning curves.

    Args:
        config: of the run.
        directory: its finished evaluation; siblings lie beside it.
        outdated: says why a finished evaluation is not what this code would make; such siblings are left out.

    Returns:
        The folder with ``tableN.*``, ``summary.md``, ``comparisons.*``, ``curves-*.png`` and ``rows.json``.
    """
    settings, evaluation = plain(config), config.evaluation
    folder = tables_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    # Rows of a sweep may end at the same time: who writes last must have read last, or the other's row is lost.
    with FileLock(f"{folder}.lock"):
        results = comparable(read_results(finished(directory.parent, "metrics.json")), settings, directory)
        results = [result for result in results if result.directory == directory or not _left_out(result, outdated)]
        rows = aggregate(results, evaluation.confidence)
        answer = summary(rows)
        found = comparisons(results, evaluation.bootstrap_resamples, evaluation.confidence, config.seed)
        compared = comparison_grid(found)
        published = published_as(config.dataset.name, config.dataset.source)
        written = write_tables(rows, folder, published=published)
        write_text(folder / "summary.md", render.markdown(answer))
        if compared is not None:
            written += write_grid(compared, folder / "comparisons")
            records = [record for comparison in found for record in comparison.records()]
            write_text(folder / "comparisons.json", json.dumps(records, indent=1))
            written.append(folder / "comparisons.json")
        patterns = ["comparisons.*", *(f"table{number}.*" for number in TABLES)]
        for left in {path for pattern in patterns for path in folder.glob(pattern)} - set(written):
            left.unlink()  # of rows that no longer belong here
        record, text = folder / "rows.json", json.dumps([_made(result) for result in results], indent=2)
        changed = not record.exists() or record.read_text(encoding="utf-8") != text
        write_text(record, text)
        _curves(directory, folder)
        grids = {f"table{number}": build(number, rows) for number in TABLES} | {"summary": answer}
        if changed and config.logger.wandb != "disabled":
            from ctrlrec.reporting.track import track_report  # imports Lightning, which what is reused does without

            shown = {name: grid for name, grid in (grids | {"comparisons": compared}).items() if grid is not None}
            track_report(config, folder, shown, [row.name for row in rows])
        if cases := find_cases(results, config.cases):  # last: it may refuse users who were not asked
            write_cases(cases, folder)
    console = Console(width=None if sys.stdout.isatty() else 120)  # a file needs no folding at 80
    for grid in grids.values():
        if grid is not None:
            console.print(render.terminal(grid))
    log.info("%-12s done   %s", "tables", folder)
    return folder


def _left_out(result: Result, outdated: Callable[[Path], str]) -> bool:
    """Return whether a row was made by other code, and log it: in one table it would pass for this code's."""
    why = outdated(result.directory)
    if why:
        log.info("%-12s not shown: %s, seed %d (%s): %s; stale=reuse shows it", "tables", result.name, result.seed,
                 result.directory.name, why)  # fmt: skip
    return bool(why)


def tables_folder(config: Config) -> Path:
    """Return the folder of the tables of runs on one data set, backbone and budget."""
    return Path(config.output) / "tables" / f"{config.dataset.name}-{config.model.name}-{config.budget.name}"


def _made(result: Result) -> dict[str, Any]:
    """Return a row of the tables, complete: how it was made, and all its numbers."""
    settings = result.metrics["settings"]
    cells = [cell for name, metrics in settings.items() if name != "general" for cell in metrics.values()]
    stages = {}
    for stage in result.upstream:
        directory = result.input(stage)
        made = how_made(directory) if (directory / "provenance.json").exists() else {}  # a model may be gone by now
        stages[stage] = {key: made.get(key) for key in ("git_commit", "hardware", "wall_seconds", "earlier_attempts")}
    return {
        "row": result.name,
        "dataset": result.config["dataset"]["name"],
        "confidence": result.config["evaluation"]["confidence"],
        "n": max((cell["n"] for cell in cells), default=0),
        **how_made(result.directory),
        "stages": stages,
        "config": {name: section for name, section in result.config.items() if name not in _NOT_DECIDING},
        "settings": settings,
    }


def _curves(evaluation: Path, folder: Path) -> None:
    """Draw the curves of the SL and RL stages that an evaluation's model came from."""
    (result,) = read_results([evaluation])
    for stage, panels in figures.PANELS.items():
        if stage in result.upstream:
            logged = figures.read_curves(figures.attempts(result.input(stage)))
            figures.draw(logged, panels, folder / f"curves-{stage}-{result.name}.png")
