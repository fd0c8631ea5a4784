"""Tables 2 to 5 of the paper, as far as the given rows allow."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting import render
from ctrlrec.reporting.columns import Column, Notes, sizes
from ctrlrec.reporting.paper import TABLES, published_numbers, published_rows
from ctrlrec.reporting.render import Cell, Grid, Mark
from ctrlrec.reporting.rows import Row, averaged, in_order
from ctrlrec.runtime.files import write_text

SILENT = "Rows with hardly any answer of the length asked for are not marked."


def build(number: int, rows: Sequence[Row], published: str | None = None) -> Grid | None:
    """Return one table of the paper.

    Args:
        number: 2 to 5.
        rows: in any order.
        published: name of the paper's data set whose printed rows stand below ours, unmarked; None for none.

    Returns:
        None if no row has a number of this table. Columns without any number are left out.
    """
    table, ours = TABLES[number], _with_numbers(number, rows)
    if not ours:
        return None
    printed = published_rows(number, published) if published else []
    everyone = [*ours, *(Row(f"{row.name} (paper)", row.settings) for row in printed)]
    notes, silent = Notes(), False
    groups, heads, columns = [], [], []
    for title, members in table.groups:
        filled = [column for column in members if any(column.cell(row) for row in everyone)]
        if not filled:
            continue
        for column in filled:
            heads.append(column.metric.head)
            columns.append(_cells(f"table{number}", column, everyone, len(ours), notes))
            silent |= any(column.silent(row) for row in ours)
        heads.append("n")
        columns.append([Cell(sizes([column.cell(row) for column in filled])) for row in everyone])
        groups.append((title, len(filled) + 1))
    questions = any(column.setting == "general" and column.cell(row) for column in table.columns for row in everyone)
    origin = f": Table {number} of the paper" if published_numbers(f"table{number}") else ""
    return Grid(
        caption=f"{table.caption}{origin}. In brackets the interval over n users"
        f"{' (MMLU and GSM8K: questions)' if questions else ''}"
        f"{'; of a row of several seeds, over these and the seeds' if averaged(ours) else ''}."
        f"{' ' + SILENT if silent else ''}",
        labels=("Row",),
        groups=tuple(groups) if any(title for title, _ in groups) else (),
        heads=tuple(heads),
        rows=tuple(((row.label,), cells) for row, cells in zip(everyone, zip(*columns, strict=True), strict=True)),
        notes=notes.lines,
    )


def _with_numbers(number: int, rows: Iterable[Row]) -> list[Row]:
    shown = [row for row in in_order(rows) if f"table{number}" not in row.place.hidden]
    return [row for row in shown if any(column.cell(row) for column in TABLES[number].columns)]


def _cells(table: str, column: Column, rows: Sequence[Row], ours: int, notes: Notes) -> list[Cell]:
    """Return a column's cells; only the first ``ours`` rows compete."""
    metric, numbers = column.metric, [column.cell(row) for row in rows]
    shown = [None if number is None else metric.shown(number["value"]) for number in numbers]
    printed: list[Mark] = [""] * (len(rows) - ours)
    marked = [*column.marks(rows[:ours], shown[:ours], table), *printed]
    cells = []
    for row, number, text, mark in zip(rows, numbers, shown, marked, strict=True):
        if number is None or text is None:
            cells.append(Cell())
            continue
        free = column.free(row)
        without = metric.shown(free["value"]) if free else ""
        interval = f"[{metric.shown(number['low'])}, {metric.shown(number['high'])}]" if "low" in number else ""
        cells.append(Cell(text, without, interval, mark, notes.letter(number, free), column.bounds(number)))
    return cells


def comma_separated(number: int, rows: Sequence[Row]) -> str:
    """Return a table's numbers in full, as fractions: value, low, high and n of every metric, one line a row."""
    columns = [(column.setting, name) for column in TABLES[number].columns for name in column.names]
    ours = _with_numbers(number, rows)
    noted = any((row.cell(*column) or {}).get("note") for row in ours for column in columns)
    parts = ("value", "low", "high", "n", *(["note"] if noted else []))
    lines: list[list[str | float]] = [
        ["row", *(f"{setting}/{name}/{part}" for setting, name in columns for part in parts)]
    ]
    for row in ours:
        cells = [row.cell(*column) or {} for column in columns]
        lines.append([row.label, *(cell.get(part, "") for cell in cells for part in parts)])
    return render.spreadsheet(lines)


def write_tables(rows: Sequence[Row], directory: Path, published: str | None = None) -> list[Path]:
    """Write ``tableN.md``, ``.tex`` and ``.csv`` for every table that the rows have numbers of.

    Args:
        rows: in any order.
        directory: made if missing; each file is replaced whole.
        published: as for :func:`build`.

    Returns:
        The files.

    Raises:
        CtrlRecError: if two rows have one name.
    """
    names = [row.name for row in rows]
    if len(set(names)) != len(names):
        raise CtrlRecError(f"tables: two rows have one name among {', '.join(sorted(names))}; aggregate seeds first")
    written = []
    for number in TABLES:
        grid = build(number, rows, published)
        if grid is not None:
            directory.mkdir(parents=True, exist_ok=True)
            written += write_grid(grid, directory / f"table{number}", comma_separated(number, rows))
    return written


def write_grid(grid: Grid, stem: Path, numbers: str | None = None) -> list[Path]:
    """Write a table as ``stem.md``, ``.tex`` and ``.csv``, each file whole; return their paths.

    Args:
        grid: what is shown.
        stem: path of the files without the suffix.
        numbers: contents of the CSV file if it is to hold more than is shown.
    """
    forms = {".md": render.markdown(grid), ".tex": render.latex(grid)}
    forms[".csv"] = render.comma_separated(grid) if numbers is None else numbers
    for suffix, text in forms.items():
        write_text(stem.with_name(stem.name + suffix), text)
    return [stem.with_name(stem.name + suffix) for suffix in forms]
