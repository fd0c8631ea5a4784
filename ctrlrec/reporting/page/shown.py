"""Tables and cases as the templates take them: text, marks and whiskers."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ctrlrec.reporting.cases import MARKS, Case
from ctrlrec.reporting.page.charts import whisker
from ctrlrec.reporting.page.svg import around
from ctrlrec.reporting.page.words import asked
from ctrlrec.reporting.render import Cell, Grid
from ctrlrec.runtime.escaping import inert

SYMBOLS = {"target": "★", "inside": "●", "history": "↩", "repeat": "⟳", "nonexistent": "✗", "excess": "+"}
_PRINTED = " (paper)"  # after the name of a printed row


@dataclass(frozen=True)
class ShownCell:
    """A cell of a table; ``sort`` is what its column is sorted by, empty for nothing."""

    value: str
    free: str
    interval: str
    mark: str
    note: str
    sort: str
    whisker: Markup


@dataclass(frozen=True)
class ShownRow:
    """A row of a table; ``kind`` is its class."""

    labels: Sequence[str]
    cells: Sequence[ShownCell]
    kind: str


@dataclass(frozen=True)
class ShownTable:
    """A table that can be sorted."""

    id: str
    title: str
    caption: str
    labels: Sequence[str]
    groups: Sequence[tuple[str, int]]
    heads: Sequence[str]
    rows: Sequence[ShownRow]
    notes: Sequence[str]


def shown_table(identity: str, title: str, grid: Grid) -> ShownTable:
    """Return a grid with its intervals drawn; every row names its section, so that it can be sorted."""
    columns = zip(*(cells for _, cells in grid.rows), strict=True)
    bounds = [[end for cell in column if cell.bounds for end in cell.bounds] for column in columns]
    axes = [around(ends, 0.02) if ends else None for ends in bounds]
    rows, section = [], ""
    for labels, cells in grid.rows:
        section = labels[0] or section
        first = asked(section) if grid.labels[0] == "Setting" else section
        texts = [inert(first), *map(inert, labels[1:])]
        shown = [_cell(cell, axis) for cell, axis in zip(cells, axes, strict=True)]
        rows.append(ShownRow(texts, shown, "paper" if section.endswith(_PRINTED) else ""))
    heads = [inert(head) for head in grid.heads]
    groups = [(inert(name), width) for name, width in grid.groups]
    return ShownTable(identity, title, grid.caption, grid.labels, groups, heads, rows, grid.notes)


def _cell(cell: Cell, axis: tuple[float, float] | None) -> ShownCell:
    drawn = whisker(cell.bounds, axis) if cell.bounds and axis else Markup()
    return ShownCell(cell.value, cell.free, cell.interval, cell.mark, cell.note, _sort_key(cell.value), drawn)


def _sort_key(text: str) -> str:
    try:
        return str(float(text))
    except ValueError:
        return text


@dataclass(frozen=True)
class ShownItem:
    """An item of an answer: ``kind`` colours it, ``marks`` say in symbols and words what it is."""

    title: str
    kind: str
    reward: str
    marks: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class ShownAnswer:
    """The answer of a row."""

    row: str
    items: Sequence[ShownItem]
    reward: str


@dataclass(frozen=True)
class ShownCase:
    """A question and the answers to it."""

    user: str
    asked: str
    category: str
    target: str
    prompt: str
    answers: Sequence[ShownAnswer]


def legend() -> list[tuple[str, str, str]]:
    """Return what an item can be: its class, symbol and words."""
    return [(mark, SYMBOLS[mark], words) for mark, words in MARKS.items()]


def shown_case(case: Case) -> ShownCase:
    """Return a case with every text on one line, the question's lines excepted."""
    answers = []
    for answer in case.answers:
        items = [
            ShownItem(
                inert(item.title),
                _decisive(item.marks) if item.marks else "",
                _signed(item.reward),
                [(SYMBOLS[mark], MARKS[mark]) for mark in item.marks],
            )
            for item in answer.items
        ]
        answers.append(ShownAnswer(inert(answer.row), items, _signed(answer.list_reward)))
    prompt = "\n".join(map(inert, case.prompt.splitlines()))
    return ShownCase(
        inert(case.user), asked(case.setting), inert(case.category or ""), inert(case.target), prompt, answers
    )


def _decisive(marks: Sequence[str]) -> str:
    """Return the mark that colours an item: why it is illegal, else that it is the target, else its category."""
    return max(marks, key=lambda mark: (mark not in ("target", "inside"), mark == "target"))


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
