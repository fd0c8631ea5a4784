"""Rules for single rows, the same for every source: what is dropped as a title, a category or an interaction."""

import functools
import re

import polars as pl

from ctrlrec.data.ledger import Ledger
from ctrlrec.data.missing import is_missing, missing
from ctrlrec.data.objects import to_column
from ctrlrec.data.times import EXPECTED_TIME, read_times
from ctrlrec.data.titles import composed

_BREAKS = "\r\n|[\n\r\t\x0b\x0c\x1c-\x1f\x85\u2028\u2029]"
_BREAK = re.compile(_BREAKS)
# Scraps of a page in place of a title or category, such as the 2018 Amazon crawl caught: a block's tag in front, of a
# part of a path too; a tag with attributes; a script. A title with a word in italics is a title.
_BLOCKS = "br|div|form|h[1-6]|img|input|li|p|script|span|style|table|td|tr|ul"
_SCRAP = (
    rf"(?:^|, )\s*</?(?i:{_BLOCKS})(?:\s|/?>)|<(?i:{_BLOCKS}|a|b|em|font|i|strong)\s[^>]*="
    r"|\bgetTime\(|\bfunction\s*\([^)]*\)\s*\{"
)
_PAGE = re.compile(_SCRAP)


def _text(column: pl.Expr) -> pl.Expr:
    return column.str.replace_all(_BREAKS, " ").str.strip_chars().str.normalize("NFC")


def _drop(
    frame: pl.DataFrame, bad: pl.Expr, reason: str, name: str, ledger: Ledger, expected: str | None = None
) -> pl.DataFrame:
    """Return the rows for which ``bad`` is not true; the others go to the ledger as ``name:line``.

    They are unreadable if something else was ``expected``, and else left out by a rule of the method.
    """
    flags = frame.select(bad.fill_null(False)).to_series()
    if flags.any():
        places = [f"{name}:{line}" for line in frame["line"].filter(flags).head(3)]
        if expected is None:
            ledger.skip(reason, int(flags.sum()), places)
        else:
            ledger.unreadable(reason, int(flags.sum()), places, expected)
        return frame.filter(~flags)
    return frame


def clean_interactions(rows: pl.DataFrame, name: str, ledger: Ledger) -> pl.DataFrame:
    """Return columns user, item, timestamp and unit (see :func:`read_times`) of the rows that have all of them.

    Args:
        rows: columns user, item, timestamp (text or number) and line.
        name: of the file, for the ledger.
        ledger: takes the rest.
    """
    for column in ("user", "item"):
        absent = pl.col(column).is_null() | (pl.col(column) == "")
        rows = _drop(rows, absent, f"interaction without {column}", name, ledger, "a user and an item in every row")
    rows = rows.with_columns(*read_times(rows["timestamp"]))
    unread = pl.col("timestamp").is_null()
    rows = _drop(rows, unread, "interaction without a readable timestamp", name, ledger, EXPECTED_TIME)
    return rows.select("user", "item", "timestamp", "unit")


def clean_items(rows: pl.DataFrame, name: str, ledger: Ledger) -> pl.DataFrame:
    """Return columns item (unique), title, categories of the items that have both.

    The first complete row of an id counts. Line breaks and tabs become a space, and text its Unicode normal form C. A
    title or category is missing if it holds a scrap of a page, or what programs write for no value.

    Args:
        rows: columns item, title, categories and line.
        name: of the file, for the ledger.
        ledger: takes the rest.
    """
    rows = _drop(
        rows, pl.col("item").is_null() | (pl.col("item") == ""), "item without id", name, ledger, "an id in every row"
    )
    rows = rows.with_columns(
        _text(pl.col("title")).alias("title"),
        to_column("categories", [_names(names) for names in rows["categories"].to_list()], pl.List(pl.String)),
    )
    title = pl.col("title")
    rows = _drop(rows, missing(title), "item without title", name, ledger)
    rows = _drop(rows, title.str.contains(_SCRAP), "item with a scrap of a page as its title", name, ledger)
    rows = _drop(rows, pl.col("categories").list.len() == 0, "item without category", name, ledger)
    rows = _drop(rows, ~pl.col("item").is_first_distinct(), "item listed again", name, ledger)
    return rows.select("item", "title", "categories")


def _names(names: list[str | None] | None) -> list[str]:
    return [name for name in dict.fromkeys(_name(name) for name in names or () if name) if name]


@functools.lru_cache(1 << 16)  # many items share few categories
def _name(raw: str) -> str:
    """Return a category as it is shown; empty if it is missing."""
    name = composed(_BREAK.sub(" ", raw).strip())
    return "" if _PAGE.search(name) or is_missing(name) else name
