"""One grid of cells as Markdown, LaTeX, CSV or for the terminal; text is made inert in each."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ctrlrec.runtime.escaping import inert, markdown_text

Mark = Literal["", "best", "second"]

_NUMBER = re.compile(r"[+-]?\d[\d.]*( [(\[][\d+\-., ]+[)\]])*$")
_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "≤": r"$\le$", "≥": r"$\ge$", "≈": r"$\approx$", "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*`'-"},  # after \\ an argument, or a ligature
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A number with what belongs to it, all as text; an empty cell shows as a dash.

    Attributes:
        value: the number.
        free: the same of the answer without control.
        interval: of the number.
        mark: whether it is the best or the second.
        note: letter of its footnote.
        bounds: low, value and high of the number as it is scaled, for a drawing; None without an interval.
    """

    value: str = ""
    free: str = ""
    interval: str = ""
    mark: Mark = ""
    note: str = ""
    bounds: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Grid:
    """A table before it takes a form.

    Attributes:
        caption: says how to read it.
        labels: heads of the leading text columns.
        groups: (title, number of columns) spanning the number columns from left to right; empty for none.
        heads: heads of the number columns.
        rows: (texts of the leading columns, cells of the number columns); an empty first text continues the section.
        notes: footnotes, each with its letter in front.
    """

    caption: str
    labels: tuple[str, ...]
    groups: tuple[tuple[str, int], ...]
    heads: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]
    notes: tuple[str, ...] = ()

    def full_heads(self) -> list[str]:
        """Return heads of the number columns with the title of their group in front."""
        titles = [title for title, width in self.groups for _ in range(width)] or [""] * len(self.heads)
        return [f"{title} {head}".strip() for title, head in zip(titles, self.heads, strict=True)]


_Style = Callable[[str], str]


def _cell(cell: Cell, bold: _Style, underlined: _Style, small: _Style, raised: _Style) -> str:
    if not cell.value:
        return "-"
    value = {"": cell.value, "best": bold(cell.value), "second": underlined(cell.value)}[cell.mark]
    value += raised(cell.note) if cell.note else ""
    return value + (f" ({cell.free})" if cell.free else "") + (f" {small(cell.interval)}" if cell.interval else "")


def markdown(grid: Grid) -> str:
    """Return a GitHub-flavoured table with its caption above and its footnotes below."""

    def line(parts: Sequence[str]) -> str:
        return f"| {' | '.join(parts)} |"

    def number(cell: Cell) -> str:
        return _cell(
            cell,
            lambda v: f"**{v}**",
            lambda v: f"<ins>{v}</ins>",
            lambda v: f"<sub>{v}</sub>",
            lambda v: f"<sup>{v}</sup>",
        )

    heads = [*grid.labels, *grid.full_heads()]
    aligned = [*["---"] * len(grid.labels), *["---:"] * len(grid.heads)]
    body = [line([*map(markdown_text, labels), *map(number, cells)]) for labels, cells in grid.rows]
    top = [markdown_text(grid.caption), "", line([markdown_text(head) for head in heads]), line(aligned)]
    notes = [line for note in grid.notes for line in ("", markdown_text(note))]
    return "\n".join([*top, *body, *notes]) + "\n"


def latex(grid: Grid) -> str:
    """Return a table environment; it needs the package booktabs."""

    def text(raw: str) -> str:
        return "".join(_LATEX.get(sign, sign) for sign in inert(raw))

    def number(cell: Cell) -> str:
        return _cell(
            cell,
            lambda v: rf"\textbf{{{v}}}",
            lambda v: rf"\underline{{{v}}}",
            lambda v: rf"{{\scriptsize {text(v)}}}",
            lambda v: rf"\textsuperscript{{{v}}}",
        )

    lead = len(grid.labels)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{text(grid.caption)}}}",
        rf"\begin{{tabular}}{{{'l' * lead}{'r' * len(grid.heads)}}}",
        r"\toprule",
    ]
    if grid.groups:
        spans = [rf"\multicolumn{{{width}}}{{c}}{{{text(title)}}}" for title, width in grid.groups]
        lines.append(" & ".join([*[""] * lead, *spans]) + r" \\")
    lines += [" & ".join(map(text, [*grid.labels, *grid.heads])) + r" \\", r"\midrule"]
    lines += [" & ".join([*map(text, labels), *map(number, cells)]) + r" \\" for labels, cells in grid.rows]
    notes = [rf"\par {text(note)}" for note in grid.notes]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}"]) + "\n"


def spreadsheet(rows: Iterable[Sequence[str | float]]) -> str:
    """Return rows as CSV; text that a spreadsheet would take for a formula because of its first character is quoted."""

    def text(raw: str | float) -> str | float:
        if not isinstance(raw, str):
            return raw
        found = inert(raw)
        signed = found.startswith(("=", "+", "-", "@")) and not _NUMBER.match(found)
        return f"'{found}" if signed else found

    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([list(map(text, row)) for row in rows])
    return file.getvalue()


def comma_separated(grid: Grid) -> str:
    """Return the cells as they are shown, without marks and footnotes."""
    return spreadsheet([[*grid.labels, *grid.full_heads()], *shown_cells(grid)])


def shown_cells(grid: Grid) -> list[list[str]]:
    """Return the texts of every row, without marks and footnotes; those of leading columns first."""

    def number(cell: Cell) -> str:
        return _cell(cell, str, str, str, lambda note: "") if cell.value else ""

    return [[*labels, *map(number, cells)] for labels, cells in grid.rows]


def terminal(grid: Grid) -> Group:
    """Return tables for a rich console, one for each group of columns, so that they fit a narrow one."""

    def number(cell: Cell) -> Text:
        style = {"": "", "best": "bold green", "second": "underline"}[cell.mark]
        text = Text(cell.value or "-", style="" if cell.value else "dim")
        text.stylize(style)
        text.append(f" {cell.note}" if cell.note else "", "default")
        text.append(f" ({cell.free})" if cell.free else "", "default")
        # An interval stands below its number, a short margin of error after it.
        gap = "\n" if cell.interval.startswith("[") else " "
        return text.append(gap + cell.interval if cell.interval else "", "dim")

    tables, first = [], 0
    for title, width in grid.groups or (("", len(grid.heads)),):
        span = slice(first, first + width)
        first += width
        heading = Text(inert(title), "italic") if title else None
        table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False)
        table.add_column(Text(inert(" / ".join(grid.labels))), no_wrap=True)
        for head in grid.heads[span]:
            table.add_column(Text(inert(head)), justify="right")
        for labels, cells in grid.rows:
            *sections, label = map(inert, labels)
            if any(sections):
                table.add_row(Text(" ".join(sections), "bold"))
            table.add_row(Text("  " * len(sections) + label), *map(number, cells[span]))
        tables.append(table)
    return Group(Text(inert(grid.caption), "bold"), *tables, *(Text(inert(note)) for note in grid.notes))
