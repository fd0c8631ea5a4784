"""The tables of a sweep in Weights & Biases: one run for each folder of tables, updated as rows are added."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ctrlrec.config.schema import Config
from ctrlrec.config.split import data_label
from ctrlrec.reporting.cases import Case
from ctrlrec.reporting.comparisons import Comparison
from ctrlrec.reporting.figures import PANELS, Bounds, draw, draw_whiskers
from ctrlrec.reporting.page.build import NAME
from ctrlrec.reporting.page.material import Material
from ctrlrec.reporting.page.words import asked
from ctrlrec.reporting.render import Grid, shown_cells
from ctrlrec.reporting.rows import Row
from ctrlrec.reporting.summary import lines_of
from ctrlrec.runtime import tracking


def track_report(config: Config, folder: Path, grids: Mapping[str, Grid], material: Material) -> None:
    """Log tables, whiskers, learning curves, cases and the page to the run of a folder of tables.

    Online the run of earlier rows is updated. Offline its earlier files, which these replace, are deleted, so that one
    is left to be sent.

    Args:
        config: of the row that was added last.
        folder: of the tables, with their page.
        grids: tables by name.
        material: of the page; names of its rows become tags.
    """
    run_id = "tables-" + hashlib.sha256(str(folder.absolute()).encode()).hexdigest()[:12]
    for earlier in (folder / "wandb").glob(f"offline-run-*-{run_id}"):
        shutil.rmtree(earlier, ignore_errors=True)
    tracker = tracking.start(
        config.logger,
        folder,
        name=f"tables-{folder.name}",
        job_type="report",
        group=folder.name,
        tags=[
            data_label(config.dataset),
            config.model.name,
            *(row.name for row in material.rows),
        ],
        settings={"dataset": data_label(config.dataset), "model": config.model.name, "budget": config.budget.name},
        run_id=run_id,
    )
    if tracker is not None:
        with TemporaryDirectory() as temporary:
            tables: dict[str, tuple[list[str], list[list[Any]]]] = {
                name: ([*grid.labels, *grid.full_heads()], shown_cells(grid)) for name, grid in grids.items()
            }
            if material.cases:
                tables["cases"] = _cases(material.cases)
            place = Path(temporary)
            pictures = _whiskers(material.rows, place) | _differences(material.comparisons, place)
            tracker.show(tables, pictures | _curves(material, place), folder / NAME)
        tracker.close(success=True)


def _curves(material: Material, folder: Path) -> dict[str, Path]:
    """Draw the curves of each row's first seed; return the pictures by name."""
    pictures: dict[str, Path] = {}
    for stage, panels in PANELS.items():
        for (row, _), columns in sorted(material.curves.get(stage, {}).items()):
            name, path = f"curves/{stage}-{row}", folder / f"curves-{len(pictures)}.png"
            if name not in pictures and draw(columns, panels, path):
                pictures[name] = path
    return pictures


def _whiskers(rows: Sequence[Row], folder: Path) -> dict[str, Path]:
    """Draw each setting's metrics of the summary, a line for each row; return the pictures by name."""
    panels: dict[str, dict[str, list[tuple[str, Bounds]]]] = {}
    for (_, metric), column in lines_of(rows):
        lines = [
            (row.label, bounds)
            for row in rows
            if (cell := column.cell(row)) is not None and (bounds := column.bounds(cell)) is not None
        ]
        if lines and column.metric.is_share:
            panels.setdefault(column.setting, {})[metric] = lines
    pictures: dict[str, Path] = {}
    for setting, by_metric in panels.items():
        pictures[f"whiskers/{setting}"] = folder / f"whiskers-{len(pictures)}.png"
        draw_whiskers(by_metric, pictures[f"whiskers/{setting}"], "percent")
    return pictures


def _differences(comparisons: Sequence[Comparison], folder: Path) -> dict[str, Path]:
    """Draw the differences between two rows, a panel for each setting; return the pictures by name."""
    pictures: dict[str, Path] = {}
    for comparison in comparisons:
        panels: dict[str, list[tuple[str, Bounds]]] = {}
        for (_, metric), column in lines_of([comparison.row]):
            bounds = column.bounds(column.cell(comparison.row) or {})
            if bounds is not None and column.metric.is_share:
                panels.setdefault(asked(column.setting), []).append((metric, bounds))
        if panels:
            name = f"differences/{comparison.row.name}"
            pictures[name] = folder / f"differences-{len(pictures)}.png"
            draw_whiskers(panels, pictures[name], "percentage points", zero=True)
    return pictures


def _cases(cases: Sequence[Case]) -> tuple[list[str], list[list[Any]]]:
    """Return the answers of Table 6 as columns and rows, one row for each answer."""
    rows = [
        [case.user, asked(case.setting), case.category or "", answer.row, place, item.title, ", ".join(item.marks),
         round(item.reward, 3)]
        for case in cases for answer in case.answers for place, item in enumerate(answer.items, 1)
    ]  # fmt: skip
    return ["user", "asked for", "category", "row", "place", "title", "marks", "item reward"], rows
