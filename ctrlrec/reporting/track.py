"""The tables of a sweep in Weights & Biases: one run for each folder of tables, updated as rows are added."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ctrlrec.config.schema import Config
from ctrlrec.config.split import data_label
from ctrlrec.reporting.figures import PANELS, draw
from ctrlrec.reporting.page.build import NAME
from ctrlrec.reporting.page.material import Material
from ctrlrec.reporting.render import Grid, shown_cells
from ctrlrec.runtime import tracking


def track_report(config: Config, folder: Path, grids: Mapping[str, Grid], material: Material) -> None:
    """Log tables, learning curves and the page to the run of a folder of tables.

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
        settings={"dataset": config.dataset.name, "model": config.model.name, "budget": config.budget.name},
        run_id=run_id,
    )
    if tracker is not None:
        with TemporaryDirectory() as temporary:
            tracker.show(
                {name: ([*grid.labels, *grid.full_heads()], shown_cells(grid)) for name, grid in grids.items()},
                _curves(material, Path(temporary)),
                folder / NAME,
            )
        tracker.close(success=True)


def _curves(material: Material, folder: Path) -> dict[str, Path]:
    """Draw the curves of each row's first seed; return the pictures by name."""
    pictures: dict[str, Path] = {}
    for stage, panels in PANELS.items():
        for (row, _), columns in sorted(material.curves.get(stage, {}).items()):
            path = folder / f"curves-{stage}-{row}.png"
            if path.stem not in pictures and draw(columns, panels, path):
                pictures[path.stem] = path
    return pictures
