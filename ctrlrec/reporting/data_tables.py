"""Tables 1 and 7 of the paper: what the data and the instruction set hold, beside the printed numbers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctrlrec.data.card import TABLE_1
from ctrlrec.reporting.paper import published_numbers
from ctrlrec.reporting.render import Cell, Grid
from ctrlrec.reporting.tables import write_grid
from ctrlrec.runtime.files import write_text
from ctrlrec.runtime.provenance import how_made

_KINDS = {
    "sequential": "I0",
    "category_positive": "I1+C",
    "category_negative": "I1-C",
    "proportion_at_most": "I2 ≤",
    "proportion_at_least": "I2 ≥",
    "proportion_about": "I2 ≈",
    "blend": "I1 and I2 as blends",
    "search": "I3",
    "chat": "I4",
    "all": "ALL",
}


def table_1(report: Mapping[str, Any]) -> Grid:
    """Return users, items, interactions and sparsity of a prepared dataset (``report.json``) and of the paper's two."""
    kept = report["kept"]
    rows = {report["dataset"]: (kept["users"], kept["items"], kept["interactions"], kept["sparsity"])}
    rows |= {f"{name} (paper)": numbers for name, numbers in TABLE_1.items()}
    return Grid(
        caption="The datasets: Table 1 of the paper.",
        labels=("Dataset",),
        groups=(),
        heads=("Users", "Items", "Interactions", "Sparsity (%)"),
        rows=tuple(
            ((name,), (*(Cell(str(number)) for number in numbers[:3]), Cell(f"{100 * numbers[3]:.2f}")))
            for name, numbers in rows.items()
        ),
    )


def table_7(dataset: str, counts: Mapping[str, Any]) -> Grid:
    """Return instructions of one epoch by kind (``counts.json``), beside the paper's."""
    kinds = _KINDS if "blend" in counts["counts"] else {kind: name for kind, name in _KINDS.items() if kind != "blend"}
    columns = {dataset: {**dict.fromkeys(kinds, 0), **counts["counts"], "all": counts["total"]}}
    columns |= {f"{name} (paper)": numbers for name, numbers in published_numbers("table7").items()}
    return Grid(
        caption="Instructions of one epoch: Table 7 of the paper.",
        labels=("Kind",),
        groups=(),
        heads=tuple(columns),
        rows=tuple(
            ((title,), tuple(Cell(str(numbers.get(kind, ""))) for numbers in columns.values()))
            for kind, title in kinds.items()
        ),
    )


def write_data_tables(data: Path, instructions: Path, folder: Path) -> None:
    """Write ``table1.*`` and ``table7.*``; ``tableN.json`` says how each was made.

    Args:
        data: directory of a finished data stage.
        instructions: directory of a finished instructions stage.
        folder: created if missing.
    """
    report = json.loads((data / "report.json").read_text(encoding="utf-8"))
    counts = json.loads((instructions / "counts.json").read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    for number, grid, stage in ((1, table_1(report), data), (7, table_7(report["dataset"], counts), instructions)):
        write_grid(grid, folder / f"table{number}")
        write_text(folder / f"table{number}.json", json.dumps(how_made(stage), indent=2))
