"""Did it help: rows side by side over all seven settings."""

from collections.abc import Sequence

from ctrlrec.evaluation.metrics import BOUNDS, CATEGORY_SETTINGS
from ctrlrec.evaluation.settings import SETTINGS
from ctrlrec.reporting.render import Cell, Grid
from ctrlrec.reporting.tables import Column, Row, in_order, label, marks, sizes

_FORMATTING = ("NonExist@K", "RepeatItem@K", "CorrectCount")


def summary(rows: Sequence[Row]) -> Grid:
    """A compact grid: one column a row of the tables, one line a metric of a setting, everything in percent.

    ``a (b) ±c``: a is the value, b that of the same model's answer without control, c half the interval's width; n, the
    number of users, behind each line. The teacher is shown for comparison and not marked: it cannot misspell a title.
    """
    ordered = in_order(rows)
    lines = [(labels, _line(column, ordered)) for labels, column in lines_of(ordered)]
    return Grid(
        caption="Did it help? Percent; a (b) ±c: value, (without control), half the interval over n users.",
        labels=("Setting", "Metric"),
        groups=(),
        heads=(*(label(row) for row in ordered), "n"),
        rows=tuple(lines),
    )


def lines_of(rows: Sequence[Row]) -> list[tuple[tuple[str, str], Column]]:
    """Labels and column of each line that some row has a number of; a setting is named in its first line."""
    lines = []
    for setting in SETTINGS:
        control = ("TCP@10",) if setting in CATEGORY_SETTINGS else ("CPA",) if setting in BOUNDS else ()
        accuracy = ("HR@K", "NDCG@K") if setting == "formatting" else ("HR@10", "NDCG@10")
        title = setting
        for metric in (*control, *accuracy, *_FORMATTING):
            column = Column(setting, metric)
            if any(column.cell(metrics) for _, metrics in rows):
                lines.append(((title, f"{metric} {'↓' if column.falling else '↑'}"), column))
                title = ""
    return lines


def _line(column: Column, rows: Sequence[Row]) -> tuple[Cell, ...]:
    numbers = [column.cell(metrics) for _, metrics in rows]
    shown = [None if number is None else f"{100 * number['value']:.1f}" for number in numbers]
    competing = [None if name == "sasrec" else text for (name, _), text in zip(rows, shown, strict=True)]
    cells = []
    for (_, metrics), number, text, mark in zip(rows, numbers, shown, marks(competing, column.falling), strict=True):
        if number is None or text is None:
            cells.append(Cell())
            continue
        free = column.cell(metrics, f"{column.metric}_free")
        half = f"±{50 * (number['high'] - number['low']):.1f}"
        cells.append(Cell(text, f"{100 * free['value']:.1f}" if free else "", half, mark))
    return (*cells, Cell(sizes(numbers)))
