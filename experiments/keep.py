"""Keeps a run's tables beside their commands: ``python experiments/keep.py runs/tables/NAME [FOLDER]``.

Tables 2 to 5 go into ``experiments/tableN_*/NAME/`` row by row: ``provenance.json`` there holds each row's numbers and
the command, commit, hardware, seed and number of users behind them, and the table is rendered from all rows in it. A
row replaces one of its name and seed; rows that were made elsewhere or earlier stay, so a grid can be made in pieces.
Comparisons need the answers of both rows, so those of a run are copied and named after its seeds and rows. Other tables
are copied as they are. The paper's numbers go beside them as ``published.md``.
"""

import itertools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting.aggregate import OWN_BACKBONE, Result, aggregate
from ctrlrec.reporting.render import markdown
from ctrlrec.reporting.tables import TABLES, build, paper_order, published_numbers, published_rows, write_table
from ctrlrec.runtime.files import write_text
from ctrlrec.runtime.provenance import check_committed

HERE = Path(__file__).parent
Made = dict[str, Any]  # an entry of rows.json


def keep(tables: Path, experiments: Path) -> list[Path]:
    """Add the tables of one folder to those kept; the folders they went to.

    Raises:
        CtrlRecError: where the folder holds no table, a row comes from an uncommitted change, or rows of one table
            would stand on different data or teachers, or be made with different settings.
    """
    path = tables / "rows.json"
    new = [clean(row, path) for row in _rows(path)]
    kept, writes = [], []
    for target in sorted(experiments.glob("table[1-7]_*")):
        number = int(target.name[5])
        files = sorted(tables.glob(f"table{number}.*"))
        if number in TABLES:
            write_text(target / "published.md", published(number))
        if files:
            kept_rows = target / tables.name / "provenance.json"
            made = tables / f"table{number}.json"  # of data and instructions, which are no rows
            if number in TABLES:
                rows = joined(kept_rows, new, number)
            elif made in files:
                rows = [clean(json.loads(made.read_text(encoding="utf-8")), made)]
            else:
                rows = [row | {"settings": {}} for row in new]
            writes.append((number, target / tables.name, rows, [file for file in files if file != made]))
    for number, folder, rows, files in writes:
        folder.mkdir(exist_ok=True)
        if number in TABLES:
            render(number, rows, folder)
            keep_comparisons(tables, folder, new)
        else:
            for file in files:
                shutil.copyfile(file, folder / file.name)
        write_text(folder / "provenance.json", json.dumps(rows, indent=2) + "\n")
        kept.append(folder)
    if not kept:
        raise CtrlRecError(f"{tables}: no tables there; expected a folder of runs/tables")
    return kept


def clean(row: Made, path: Path) -> Made:
    """How a row or a stage was made, without the places of files, which are nobody's business but the machine's."""
    name = f"row {row['row']}" if "row" in row else "the table"
    parts = {name: row} | {f"{name}, {stage}": made for stage, made in row.get("stages", {}).items()}
    for part, made in parts.items():
        check_committed(made, f"{path}: {part}")
    words = [word for word in shlex.split(row["command"]) if not word.startswith(("output=", "cache="))]
    command = shlex.join(re.sub(r"=[/~].*/", "=path/to/", word) for word in words)
    upstream = {stage: entry["fingerprint"] for stage, entry in row["upstream"].items()}
    cleaned = row | {"command": command, "upstream": upstream}
    return cleaned | {"config": _without_places(row["config"])} if "config" in row else cleaned


def _without_places(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_places(part) for key, part in value.items()}
    return re.sub(r"^[/~].*/", "path/to/", value) if isinstance(value, str) else value


def joined(path: Path, new: Sequence[Made], number: int) -> list[Made]:
    """Rows kept in ``path`` with the new ones in place of those of their name and seed, with one table's numbers."""
    shown = {(column.setting, metric) for column, metric in TABLES[number].numbers}
    rows = {(row["row"], row["seed"]): row for row in _rows(path)}
    for row in new:
        settings = {
            setting: {metric: cell for metric, cell in cells.items() if (setting, metric) in shown}
            for setting, cells in row["settings"].items()
        }
        settings = {setting: cells for setting, cells in settings.items() if cells}
        rows[row["row"], row["seed"]] = row | {"settings": settings}
    results = [_result(row, path.parent) for row in rows.values() if "config" in row]  # earlier rows have none
    for one, other in itertools.combinations(results, 2):
        if not (one.belongs_with(other.config) or other.belongs_with(one.config)):
            raise CtrlRecError(
                f"{path}: rows {one.name}, seed {one.seed}, and {other.name}, seed {other.seed}, were made with "
                "different settings; keep unlike ones in a folder of another name"
            )
    same = [row for (name, _), row in rows.items() if name not in OWN_BACKBONE]
    data = {(row["upstream"]["data"], row["confidence"]) for row in same}
    teachers = {(row["seed"], row["upstream"]["teacher"]) for row in same}  # each seed trains its own
    if len(data) > 1 or len(teachers) > len({seed for seed, _ in teachers}):
        found = "; ".join(
            f"{name}, seed {seed}: {row['upstream']['data']}, {row['upstream']['teacher']}, {row['confidence']}"
            for (name, seed), row in rows.items()
        )
        raise CtrlRecError(
            f"{path}: rows of one table need one data set, teacher (a seed) and confidence, found {found}; keep unlike "
            "ones in a folder of another name"
        )
    return sorted(rows.values(), key=lambda row: (paper_order(row["row"]), row["row"], row["seed"]))


def _rows(path: Path) -> list[Made]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def keep_comparisons(tables: Path, folder: Path, new: Sequence[Made]) -> None:
    """Copy a run's comparisons, as ``comparisons-seed0-v2+full.*``, and remove those of rows that it made anew."""
    before = _rows(folder / "provenance.json")
    anew = {(_slug(row), str(row["seed"])) for row in new} & {(_slug(row), str(row["seed"])) for row in before}
    for file in folder.glob("comparisons-*.*"):
        seeds, rows = (part.split("+") for part in file.stem.removeprefix("comparisons-seed").split("-", 1))
        if anew & set(itertools.product(rows, seeds)):
            file.unlink()
    seeds = "+".join(map(str, sorted({row["seed"] for row in new})))
    rows = "+".join(dict.fromkeys(map(_slug, new)))
    for file in tables.glob("comparisons.*"):
        shutil.copyfile(file, folder / f"comparisons-seed{seeds}-{rows}{file.suffix}")


def _slug(row: Made) -> str:
    return re.sub(r"[^\w.]+", "-", row["row"])


def render(number: int, rows: Sequence[Made], folder: Path) -> list[Path]:
    """Write a table from kept rows; its files."""
    rows_of_table = aggregate([_result(row, folder) for row in rows], rows[0]["confidence"])
    return write_table(number, rows_of_table, folder, rows[0]["dataset"])


def _result(row: Made, folder: Path) -> Result:
    config = row.get("config", {"variant": {"name": row["row"], "answers_with": "model"}})
    return Result(folder, config | {"seed": row["seed"]}, row, row["upstream"], 0.0)


def published(number: int) -> str:
    """The paper's two datasets of a table."""
    parts = [f"Table {number} as printed, rendered from ctrlrec/reporting/published.yaml.\n"]
    for dataset in published_numbers(f"table{number}"):
        grid = build(number, published_rows(number, dataset))
        assert grid is not None
        parts.append(f"## {dataset}\n\n{markdown(grid)}")
    return "\n".join(parts)


def main() -> int:
    try:
        for folder in keep(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE):
            print(folder)
    except CtrlRecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
