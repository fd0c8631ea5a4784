"""Results kept beside the code: a folder for each grid of rows, with its tables, comparisons and curves.

The folder has the name of the run's folder of tables. Rows join it at different times and from different machines:
``rows.json`` holds each row's numbers, settings, command, commit, hardware and seed, ``comparisons.json`` the
differences of each pair and seed, ``curves-*.parquet`` what SL and RL logged. Pages are rendered from these files. A
row replaces one of its name and seed. Table 6 is not kept: it shows histories of users.
"""

import itertools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting import curves
from ctrlrec.reporting.aggregate import Result, aggregate
from ctrlrec.reporting.comparisons import comparison_grid, pooled
from ctrlrec.reporting.families import write_families
from ctrlrec.reporting.made import Made, public_command, run_seed
from ctrlrec.reporting.page.build import COMMAND, NAME, write_page
from ctrlrec.reporting.page.material import Material, data_tables, kept_curves
from ctrlrec.reporting.paper import TABLES, published_numbers, published_rows
from ctrlrec.reporting.render import markdown
from ctrlrec.reporting.rows import in_order, kind, place_of
from ctrlrec.reporting.summary import summary
from ctrlrec.reporting.tables import build, write_grid, write_tables
from ctrlrec.runtime.files import write_text
from ctrlrec.runtime.provenance import check_committed


def keep(tables: Path, experiments: Path) -> Path:
    """Add a run's tables to those kept.

    Args:
        tables: folder of ``runs/tables``.
        experiments: where the folders of the grids lie.

    Returns:
        The grid's folder.

    Raises:
        CtrlRecError: if the folder holds no table, a row comes from an uncommitted change, or rows would stand on
            different data or teachers, or be made with different settings.
    """
    target, path = experiments / tables.name, tables / "rows.json"
    raw = _read(path)
    data = {name: tables / f"{name}.json" for name in ("table1", "table7") if (tables / f"{name}.json").exists()}
    if not raw and not data:
        raise CtrlRecError(f"{tables}: no tables there; expected a folder of runs/tables")
    new, before = [clean(row, path) for row in raw], _read(target / "rows.json")
    made = {name: clean(json.loads(file.read_text(encoding="utf-8")), file) for name, file in data.items()}
    rows = joined(before, new, target / "rows.json")
    again = {(row["row"], row["seed"]) for row in before} & {(row["row"], row["seed"]) for row in new}
    entries = [entry for entry in _read(target / "comparisons.json") if not again & _compared(entry, before)]
    found = _read(tables / "comparisons.json")
    pairs = {_pair(entry) for entry in found}
    entries = [*(entry for entry in entries if _pair(entry) not in pairs), *found]
    target.mkdir(parents=True, exist_ok=True)
    for name, content in (("rows", rows), ("comparisons", entries)):
        if content:
            write_text(target / f"{name}.json", json.dumps(content, indent=1) + "\n")
    for name, how in made.items():
        for file in set(tables.glob(f"{name}.*")) - {data[name]}:
            shutil.copyfile(file, target / file.name)
        write_text(target / f"{name}.json", json.dumps(how, indent=1) + "\n")
    curves.keep(raw, rows, target)
    render(target)
    write_text(experiments / "published.md", published_page())
    return target


def _pair(entry: Mapping[str, Any]) -> tuple[str, str, int]:
    return entry["better"], entry["worse"], entry["seed"]


def _compared(entry: Mapping[str, Any], rows: Sequence[Made]) -> set[tuple[str, int]]:
    """Return name and seed of the rows compared; beside a seed of RL, a row without RL has the seed of the run."""
    named = {(row["row"], row["seed"]) for row in rows if row["row"] in (entry["better"], entry["worse"])}
    return {(name, seed) for name, seed in named if seed == entry["seed"] or (name, entry["seed"]) not in named}


def _read(path: Path) -> list[Made]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def clean(row: Made, path: Path) -> Made:
    """Return how a row or a stage was made, without the places of files on its machine.

    Raises:
        CtrlRecError: if code that no commit holds had a part in it.
    """
    name = f"row {row['row']}" if "row" in row else "the table"
    parts = {name: row} | {f"{name}, {stage}": made for stage, made in row.get("stages", {}).items()}
    for part, made in parts.items():
        check_committed(made, f"{path}: {part}")
    upstream = {stage: entry["fingerprint"] for stage, entry in row["upstream"].items()}
    cleaned = row | {"command": public_command(row["command"]), "upstream": upstream}
    return cleaned | {"config": without_places(row["config"])} if "config" in row else cleaned


def without_places(value: Any) -> Any:
    """Return plain containers with ``path/to/`` in place of the folders of this machine."""
    if isinstance(value, dict):
        return {key: without_places(part) for key, part in value.items()}
    return re.sub(r"^[/~].*/", "path/to/", value) if isinstance(value, str) else value


def joined(before: Sequence[Made], new: Sequence[Made], path: Path) -> list[Made]:
    """Return kept rows with the new ones in place of those of their name and seed, in the order of the tables.

    Raises:
        CtrlRecError: if two rows were made with different settings, data, teachers or confidences.
    """
    rows = {(row["row"], row["seed"], run_seed(row)): row for row in (*before, *new)}
    results = [_result(row, path.parent) for row in rows.values()]
    recorded = [result for result, row in zip(results, rows.values(), strict=True) if "config" in row]
    for one, other in itertools.combinations(recorded, 2):
        if not (one.belongs_with(other.config) or other.belongs_with(one.config)):
            raise CtrlRecError(
                f"{path}: rows {one.name}, seed {one.seed}, and {other.name}, seed {other.seed}, were made with "
                "different settings; keep unlike ones in a folder of another name"
            )
    own = {result.name for result in results if result.row.place.own_backbone}
    same = [row for row in rows.values() if row["row"] not in own]
    data = {(row["upstream"]["data"], row["confidence"]) for row in same}
    teachers = {(run_seed(row), row["upstream"]["teacher"]) for row in same}  # each seed trains its own
    if len(data) > 1 or len(teachers) > len({seed for seed, _ in teachers}):
        found = "; ".join(
            f"{name}, seed {seed}: {row['upstream']['data']}, {row['upstream']['teacher']}, {row['confidence']}"
            for (name, seed, _), row in rows.items()
        )
        raise CtrlRecError(
            f"{path}: rows of one table need one data set, teacher (a seed) and confidence, found {found}; keep unlike "
            "ones in a folder of another name"
        )
    order = {result.name: (result.row.place.order, result.name) for result in results}
    return sorted(rows.values(), key=lambda row: (order[row["row"]], row["seed"]))


def _result(row: Made, folder: Path) -> Result:
    config = row.get("config", {"variant": {"name": row["row"], "answers_with": "model"}})
    return Result(folder, config | {"seed": run_seed(row)}, row, row["upstream"], 0.0)


def render(folder: Path) -> list[Path]:
    """Write the pages of a grid from its ``rows.json`` and ``comparisons.json``; return their paths."""
    written = []
    found = material(folder)
    if found.rows:
        written += write_tables(found.rows, folder, found.published)
        write_text(folder / "summary.md", markdown(summary(found.rows)))
        written.append(folder / "summary.md")
    if (compared := comparison_grid(found.comparisons)) is not None:
        written += write_grid(compared, folder / "comparisons")
    written += write_families(found.rows, found.comparisons, folder)
    if found.rows:
        written.append(write_page(found, folder / NAME, [*COMMAND, f"experiments/{folder.name}"]))
    return written


def material(folder: Path) -> Material:
    """Return what the page of a grid shows: all that its files hold, which is not an answer to any user."""
    rows = _read(folder / "rows.json")
    return Material(
        folder.name,
        rows,
        in_order(aggregate([_result(row, folder) for row in rows], rows[0]["confidence"])) if rows else [],
        pooled(sorted(_read(folder / "comparisons.json"), key=_place)),
        rows[0]["dataset"] if rows and published_rows(2, rows[0]["dataset"]) else None,
        kept_curves(folder),
        data=data_tables(folder),
    )


def _place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return where a pair stands: in the order of the rows, then of those that each is compared with."""
    place, worse = place_of(entry["better"]), entry["worse"]
    known = place.compared_with
    return place.order, entry["better"], known.index(kind(worse)) if kind(worse) in known else len(known), worse


def published_page() -> str:
    """Return Tables 2 to 5 as printed, for both data sets of the paper, as one page."""
    parts = ["# The published numbers\n\nTables 2 to 5 as printed, rendered from ctrlrec/reporting/published.yaml.\n"]
    for number in TABLES:
        for dataset in published_numbers(f"table{number}"):
            grid = build(number, published_rows(number, dataset))
            assert grid is not None
            parts.append(f"## Table {number}, {dataset}\n\n{markdown(grid)}")
    return "\n".join(parts)
