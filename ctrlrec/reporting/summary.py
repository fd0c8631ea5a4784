"""Did it help: rows side by side over all settings."""

from collections.abc import Sequence

from ctrlrec.evaluation.metrics import metrics_of
from ctrlrec.evaluation.settings import SETTINGS
from ctrlrec.reporting.columns import Column, Notes, sizes
from ctrlrec.reporting.render import Cell, Grid
from ctrlrec.reporting.rows import Row, in_order
from ctrlrec.reporting.tables import SILENT


def summary(rows: Sequence[Row], family: str = "") -> Grid:
    """Return a compact grid: one column a row of the tables, one line a metric of a setting, shares in percent.

    ``a (b) ±c``: a is the value, b that of the same model's answer without control, c half the interval's width. n, the
    number of users, stands after each line. The teacher is shown for comparison and not marked: it cannot misspell a
    title.

    Args:
        rows: in any order.
        family: of the metrics shown.
    """
    ordered = [row for row in in_order(rows) if "summary" not in row.place.hidden]
    notes, columns = Notes(), lines_of(ordered, family)
    lines = [(labels, _line(column, ordered, notes)) for labels, column in columns]
    silent = any(column.silent(row) for _, column in columns for row in ordered)
    title = f"{family.capitalize()}. Percent unless a unit is named" if family else "Did it help? Percent"
    return Grid(
        caption=f"{title}; a (b) ±c: value, (without control), half the interval over n users."
        f"{' ' + SILENT if silent else ''}",
        labels=("Setting", "Metric"),
        groups=(),
        heads=(*(row.label for row in ordered), "n"),
        rows=tuple(lines),
        notes=notes.lines,
    )


def lines_of(rows: Sequence[Row], family: str = "") -> list[tuple[tuple[str, str], Column]]:
    """Return labels and column of each line that some row has a number of; a setting's first line names it.

    Args:
        rows: whose numbers are shown.
        family: of the metrics shown.
    """
    lines = []
    for setting in SETTINGS:
        title = setting
        for name, metric in metrics_of(setting).items():
            column = Column(setting, name)
            if metric.summary and metric.family == family and any(column.cell(row) for row in rows):
                unit = "" if metric.is_share else f" ({metric.unit})"
                lines.append(((title, f"{name}{unit} {metric.arrow}"), column))
                title = ""
    return lines


def _line(column: Column, rows: Sequence[Row], notes: Notes) -> tuple[Cell, ...]:
    metric, numbers = column.metric, [column.cell(row) for row in rows]
    shown = [None if number is None else f"{metric.scaled(number['value']):.1f}" for number in numbers]
    cells = []
    for row, number, text, mark in zip(rows, numbers, shown, column.marks(rows, shown, "summary"), strict=True):
        if number is None or text is None:
            cells.append(Cell())
            continue
        free = column.free(row)
        half = f"±{metric.scaled(number['high'] - number['low']) / 2:.1f}"
        without = f"{metric.scaled(free['value']):.1f}" if free else ""
        cells.append(Cell(text, without, half, mark, notes.letter(number, free)))
    return (*cells, Cell(sizes(numbers)))
