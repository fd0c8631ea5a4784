"""The tables of a sweep in Weights & Biases: one run for each folder of tables, updated as rows are added."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ctrlrec.config.schema import Config
from ctrlrec.reporting.render import Grid, shown_cells
from ctrlrec.runtime import tracking


def track_report(config: Config, folder: Path, grids: Mapping[str, Grid], rows: Sequence[str]) -> None:
    """Log tables and figures to the run of a folder of tables.

    Online the run of earlier rows is updated. Offline its earlier files, which these replace, are deleted, so that one
    is left to be sent.

    Args:
        config: of the row that was added last.
        folder: of the tables; its pictures are logged too.
        grids: tables by name.
        rows: names of the rows shown, which become tags.
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
        tags=[config.dataset.name, config.model.name, *rows],
        settings={"dataset": config.dataset.name, "model": config.model.name, "budget": config.budget.name},
        run_id=run_id,
    )
    if tracker is not None:
        tracker.show(
            {name: ([*grid.labels, *grid.full_heads()], shown_cells(grid)) for name, grid in grids.items()},
            {path.stem: path for path in sorted(folder.glob("*.png"))},
        )
        tracker.close(success=True)
