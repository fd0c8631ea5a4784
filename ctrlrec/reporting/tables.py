"""Tables 2 to 5 of the paper from ``metrics.json`` files, as far as the rows at hand go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting import render
from ctrlrec.reporting.render import Cell, Grid, Mark
from ctrlrec.runtime.files import write_text

Row = tuple[str, Mapping[str, Any]]  # a row's name and its metrics.json

ROW_ORDER = ("sasrec", "api", "gpt35", "zero_shot", "instructrec", "palr", "v1", "v2", "v3", "full")
_FALLING = ("category_negative/TCP@10", "RepeatItem@K", "NonExist@K", "InHistory@K")
_FRACTIONS = ("HR@", "NDCG@", "MMLU", "GSM8K")


@dataclass(frozen=True)
class Column:
    """A metric in a setting."""

    setting: str
    metric: str

    @property
    def falling(self) -> bool:
        """Whether smaller is better."""
        return self.metric in _FALLING or f"{self.setting}/{self.metric}" in _FALLING

    @property
    def head(self) -> str:
        """The metric, its unit and which direction is better."""
        unit = "" if self.metric.startswith(_FRACTIONS) else " (%)"
        return f"{self.metric}{unit} {'↓' if self.falling else '↑'}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metric, and behind it the one that the paper prints in parentheses."""
        return (self.metric, f"{self.metric}_free") if self.metric in ("TCP@10", "CPA") else (self.metric,)

    def cell(self, row: Mapping[str, Any], metric: str | None = None) -> Mapping[str, float] | None:
        """This column's entry of a ``metrics.json``, or that of another metric in its setting."""
        return row["settings"].get(self.setting, {}).get(metric or self.metric)

    def shown(self, value: float) -> str:
        """As the paper prints it: percent with two digits, or a fraction with four."""
        return f"{value:.4f}" if self.metric.startswith(_FRACTIONS) else f"{100 * value:.2f}"


@dataclass(frozen=True)
class Table:
    """A table of the paper: column groups, and the rows that do not compete for the best mark or are not shown."""

    caption: str
    groups: tuple[tuple[str, tuple[Column, ...]], ...]
    unranked: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ("sasrec",)

    @property
    def columns(self) -> list[Column]:
        """All columns from left to right."""
        return [column for _, columns in self.groups for column in columns]

    @property
    def numbers(self) -> list[tuple[Column, str]]:
        """Each column with each of its metrics, from left to right."""
        return [(column, metric) for column in self.columns for metric in column.metrics]


def _group(title: str, setting: str, *metrics: str) -> tuple[str, tuple[Column, ...]]:
    return title, tuple(Column(setting, metric) for metric in metrics)


TABLES: Mapping[int, Table] = {
    2: Table(
        "Sequential recommendation (I0)",
        (_group("", "sequential", "HR@10", "NDCG@10", "HR@5", "NDCG@5"),),
        hidden=(),
    ),
    3: Table(
        "Category control (I1), in parentheses the same model's answer without it",
        (
            _group("I1+C", "category_positive", "HR@10", "NDCG@10", "TCP@10"),
            _group("I1-C", "category_negative", "HR@10", "NDCG@10", "TCP@10"),
        ),
    ),
    4: Table(
        "Category proportion control (I2), in parentheses the same model's answer without it",
        (
            _group("≤20%", "at_most_20", "HR@10", "NDCG@10", "CPA"),
            _group("≈30%", "about_30", "HR@10", "NDCG@10", "CPA"),
            _group("≥30%", "at_least_30", "HR@10", "NDCG@10", "CPA"),
        ),
    ),
    5: Table(
        "Formatting quality and general ability",
        (
            _group("Formatting", "formatting", "CorrectCount", "RepeatItem@K", "NonExist@K", "InHistory@K"),
            _group("Precision", "formatting", "HR@K", "NDCG@K"),
            _group("Generalization", "general", "MMLU", "GSM8K"),
        ),
        unranked=("api", "gpt35"),
    ),
}


def kind(row: str) -> str:
    """The variant of a row's name, which may say more behind it."""
    return row.split(" ")[0]


def paper_order(row: str) -> int:
    """Where the paper has a row of this name; others come last."""
    return ROW_ORDER.index(kind(row)) if kind(row) in ROW_ORDER else len(ROW_ORDER)


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Rows as the paper orders them, others behind in the given order."""
    return sorted(rows, key=lambda row: paper_order(row[0]))


def label(row: Row) -> str:
    """A row's name, and over how many seeds it is averaged."""
    seeds = row[1].get("seeds", ())
    return f"{row[0]} ({len(seeds)} seeds)" if len(seeds) > 1 else row[0]


def averaged(rows: Sequence[Row]) -> bool:
    """Whether some row is averaged over seeds."""
    return any(len(metrics.get("seeds", ())) > 1 for _, metrics in rows)


def marks(shown: Sequence[str | None], falling: bool) -> list[Mark]:
    """Best and second of the numbers as printed, equals alike; nothing where none is better than another.

    Args:
        shown: printed numbers; None does not compete.
        falling: whether smaller is better.
    """
    ranking = sorted({float(text) for text in shown if text is not None}, reverse=not falling)
    if len(ranking) < 2:
        return [""] * len(shown)
    names: dict[float, Mark] = dict(zip(ranking, ("best", "second"), strict=False))  # type: ignore[arg-type]
    return ["" if text is None else names.get(float(text), "") for text in shown]


def published_numbers(table: str) -> dict[str, dict[str, Any]]:
    """What ``published.yaml`` keeps of a table, by the paper's data sets."""
    text = resources.files("ctrlrec.reporting").joinpath("published.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text).get(table, {})


def published_rows(number: int, dataset: str) -> list[Row]:
    """The rows the paper prints in a table, laid out like ``metrics.json`` without intervals; none for other data.

    Args:
        number: of the table, 2 to 5.
        dataset: ``movie`` or ``steam`` in any case, or the name of one of the two in ``dataset=``.
    """
    dataset = dataset.removeprefix("amazon_")
    printed = {name.lower(): rows for name, rows in published_numbers(f"table{number}").items()}
    found: list[Row] = []
    for name, values in printed.get(dataset.lower(), {}).items():
        settings: dict[str, dict[str, dict[str, float]]] = {}
        # Of columns behind the paper's nothing is printed.
        for (column, metric), value in zip(TABLES[number].numbers, values, strict=False):
            if value is not None:
                unit = 1 if metric.startswith(_FRACTIONS) else 100
                settings.setdefault(column.setting, {})[metric] = {"value": value / unit}
        found.append((name, {"settings": settings}))
    return found


def build(number: int, rows: Sequence[Row], published: str | None = None) -> Grid | None:
    """One table of the paper.

    Args:
        number: 2 to 5.
        rows: names and ``metrics.json`` contents in any order.
        published: name of the paper's data set whose printed rows stand below ours, unmarked; None for none.

    Returns:
        None where no row has a number of this table. Columns without any number are left out.
    """
    table, ours = TABLES[number], _with_numbers(number, rows)
    if not ours:
        return None
    printed = published_rows(number, published) if published else []
    everyone = [*ours, *((f"{name} (paper)", metrics) for name, metrics in printed)]
    competes = [index < len(ours) and kind(row[0]) not in table.unranked for index, row in enumerate(everyone)]
    groups, heads, columns = [], [], []
    for title, members in table.groups:
        filled = [column for column in members if any(column.cell(metrics) for _, metrics in everyone)]
        if not filled:
            continue
        for column in filled:
            heads.append(column.head)
            columns.append(_cells(column, everyone, competes))
        heads.append("n")
        columns.append([Cell(sizes([column.cell(metrics) for column in filled])) for _, metrics in everyone])
        groups.append((title, len(filled) + 1))
    questions = any(column.setting == "general" and column.cell(row) for column in table.columns for _, row in everyone)
    origin = f": Table {number} of the paper" if published_numbers(f"table{number}") else ""
    return Grid(
        caption=f"{table.caption}{origin}. In brackets the interval over n users"
        f"{' (MMLU and GSM8K: questions)' if questions else ''}"
        f"{'; of a row of several seeds, over these and the seeds' if averaged(ours) else ''}.",
        labels=("Row",),
        groups=tuple(groups) if any(title for title, _ in groups) else (),
        heads=tuple(heads),
        rows=tuple(((label(row),), cells) for row, cells in zip(everyone, zip(*columns, strict=True), strict=True)),
    )


def sizes(numbers: Sequence[Mapping[str, float] | None]) -> str:
    """Over how many users or questions these numbers are, each size once: MMLU / GSM8K."""
    return " / ".join(dict.fromkeys(str(number["n"]) for number in numbers if number and "n" in number))


def _with_numbers(number: int, rows: Sequence[Row]) -> list[Row]:
    table = TABLES[number]
    named = [row for row in in_order(rows) if row[0] not in table.hidden]
    return [row for row in named if any(column.cell(row[1]) for column in table.columns)]


def _cells(column: Column, rows: Sequence[Row], competes: Sequence[bool]) -> list[Cell]:
    numbers = [column.cell(metrics) for _, metrics in rows]
    shown = [None if number is None else column.shown(number["value"]) for number in numbers]
    marked = marks([text if ranked else None for text, ranked in zip(shown, competes, strict=True)], column.falling)
    cells = []
    for (_, metrics), number, text, mark in zip(rows, numbers, shown, marked, strict=True):
        if number is None or text is None:
            cells.append(Cell())
            continue
        free = column.cell(metrics, f"{column.metric}_free")
        interval = f"[{column.shown(number['low'])}, {column.shown(number['high'])}]" if "low" in number else ""
        cells.append(Cell(text, column.shown(free["value"]) if free else "", interval, mark))
    return cells


def comma_separated(number: int, rows: Sequence[Row]) -> str:
    """A table's numbers in full, as fractions: value, low, high and n of every metric, one line a row."""
    columns = TABLES[number].numbers
    parts = ("value", "low", "high", "n")
    lines: list[list[str | float]] = [
        ["row", *(f"{column.setting}/{metric}/{part}" for column, metric in columns for part in parts)]
    ]
    for row in _with_numbers(number, rows):
        cells = [column.cell(row[1], metric) or {} for column, metric in columns]
        lines.append([label(row), *(cell.get(part, "") for cell in cells for part in parts)])
    return render.spreadsheet(lines)


def write_tables(rows: Sequence[Row], directory: Path, published: str | None = None) -> list[Path]:
    """Write ``tableN.md``, ``.tex``, ``.html`` and ``.csv`` for every table that the rows have numbers of.

    Args:
        rows: names and ``metrics.json`` contents.
        directory: made where missing; each file is replaced whole.
        published: as for :func:`build`.

    Raises:
        CtrlRecError: where two rows have one name.
    """
    names = [name for name, _ in rows]
    if len(set(names)) != len(names):
        raise CtrlRecError(f"tables: two rows have one name among {', '.join(sorted(names))}; aggregate seeds first")
    return [path for number in TABLES for path in write_table(number, rows, directory, published)]


def write_table(number: int, rows: Sequence[Row], directory: Path, published: str | None = None) -> list[Path]:
    """One table of :func:`write_tables`; nothing where no row has a number of it."""
    grid = build(number, rows, published)
    if grid is None:
        return []
    directory.mkdir(parents=True, exist_ok=True)
    return write_grid(grid, directory / f"table{number}", comma_separated(number, rows))


def write_grid(grid: Grid, stem: Path, numbers: str | None = None) -> list[Path]:
    """Write a table as ``stem.md``, ``.tex``, ``.html`` and ``.csv``, each file whole; their paths.

    Args:
        grid: what is shown.
        stem: path of the files but for the suffix.
        numbers: contents of the CSV file where it is to hold more than is shown.
    """
    forms = {".md": render.markdown(grid), ".tex": render.latex(grid), ".html": render.web(grid)}
    forms[".csv"] = render.comma_separated(grid) if numbers is None else numbers
    for suffix, text in forms.items():
        write_text(stem.with_name(stem.name + suffix), text)
    return [stem.with_name(stem.name + suffix) for suffix in forms]
