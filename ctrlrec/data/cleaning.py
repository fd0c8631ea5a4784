"""Rules for single rows, the same for every source: what is no title, no category, no time."""

import functools
import re

import polars as pl

from ctrlrec.data.ledger import Ledger
from ctrlrec.data.objects import to_column

_BREAKS = "\r\n|[\n\r\t\x0b\x0c\x1c-\x1f\x85\u2028\u2029]"
_BREAK = re.compile(_BREAKS)
_INVISIBLE = "[\u200b-\u200f\u2060\ufeff]"
# Scraps of a page in place of a title or category, such as the 2018 Amazon crawl caught: a block's tag in front, of a
# part of a path too; a tag with attributes; a script. A title with a word in italics is a title.
_BLOCKS = "br|div|form|h[1-6]|img|input|li|p|script|span|style|table|td|tr|ul"
_SCRAP = (
    rf"(?:^|, )\s*</?(?i:{_BLOCKS})(?:\s|/?>)|<(?i:{_BLOCKS}|a|b|em|font|i|strong)\s[^>]*="
    r"|\bgetTime\(|\bfunction\s*\([^)]*\)\s*\{"
)
_PAGE = re.compile(_SCRAP)
_SECOND = 1_000_000
_DATE_FORMATS = (
    "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M%#z", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f%#z", "%m %d, %Y",
)  # fmt: skip


def _text(column: pl.Expr) -> pl.Expr:
    return column.str.replace_all(_BREAKS, " ").str.strip_chars()


def _drop(frame: pl.DataFrame, bad: pl.Expr, reason: str, name: str, ledger: Ledger) -> pl.DataFrame:
    """Rows where ``bad`` is not true; the others go to the ledger as ``name:line``."""
    flags = frame.select(bad.fill_null(False)).to_series()
    if flags.any():
        lines = frame["line"].filter(flags).head(3).to_list()
        ledger.skip(reason, int(flags.sum()), [f"{name}:{line}" for line in lines])
        return frame.filter(~flags)
    return frame


def microseconds(stamps: pl.Series) -> pl.Series:
    """Timestamps as whole microseconds (int64); null where a value is neither a number nor a date.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970 by their size (seconds below 1e11, the
    year 5138); dates are ISO 8601 with or without time and zone (UTC where there is none), or "06 17, 2018".
    """
    if isinstance(stamps.dtype, pl.Date | pl.Datetime):
        return stamps.cast(pl.Datetime("us")).dt.timestamp("us")
    if stamps.dtype == pl.String:
        stamps = stamps.str.strip_chars().str.replace("T", " ", literal=True)
    whole, real = stamps.cast(pl.Int64, strict=False), stamps.cast(pl.Float64, strict=False)
    dates = whole.clear(len(stamps))
    if stamps.dtype == pl.String:
        for form in _DATE_FORMATS:
            if (real.is_null() & dates.is_null() & stamps.is_not_null()).any():
                dates = dates.fill_null(stamps.str.to_datetime(form, time_unit="us", strict=False).dt.timestamp("us"))
    frame = pl.DataFrame({"whole": whole, "real": real, "date": dates})
    # The lowest integer is how pandas writes no time at all.
    number, size = pl.col("whole").replace(-(2**63), None), pl.col("whole").abs()
    seconds, fraction = pl.col("real").abs(), pl.col("real")
    return frame.select(
        pl.when(number.is_not_null() & (stamps.dtype.is_integer() | (number == pl.col("real"))))
        .then(
            pl.when(size < 10**11).then(number * _SECOND)
            .when(size < 10**14).then(number * 1000)
            .when(size < 10**17).then(number)
            .otherwise(number // 1000)
        )
        .when(seconds < 1e11).then((fraction * _SECOND).cast(pl.Int64, strict=False))
        .when(seconds < 1e14).then((fraction * 1000).cast(pl.Int64, strict=False))
        .when(seconds < 1e17).then(fraction.cast(pl.Int64, strict=False))
        .when(seconds < 2.0**63).then((fraction / 1000).cast(pl.Int64, strict=False))
        .otherwise(pl.col("date"))
        .alias("timestamp")
    ).to_series()  # fmt: skip


def clean_interactions(rows: pl.DataFrame, name: str, ledger: Ledger) -> pl.DataFrame:
    """Columns user, item, timestamp (int64 microseconds) of the rows that have all three.

    Args:
        rows: columns user, item, timestamp (text or number) and line.
        name: of the file, for the ledger.
        ledger: takes the rest.
    """
    for column in ("user", "item"):
        missing = pl.col(column).is_null() | (pl.col(column) == "")
        rows = _drop(rows, missing, f"interaction without {column}", name, ledger)
    rows = rows.with_columns(microseconds(rows["timestamp"]).alias("timestamp"))
    rows = _drop(rows, pl.col("timestamp").is_null(), "interaction without a readable timestamp", name, ledger)
    return rows.select("user", "item", "timestamp")


def clean_items(rows: pl.DataFrame, name: str, ledger: Ledger) -> pl.DataFrame:
    """Columns item (unique), title, categories of the items that have both; the first complete row of an id counts.

    Line breaks and tabs become a space; a title or category that holds a scrap of a page is none.

    Args:
        rows: columns item, title, categories and line.
        name: of the file, for the ledger.
        ledger: takes the rest.
    """
    rows = _drop(rows, pl.col("item").is_null() | (pl.col("item") == ""), "item without id", name, ledger)
    rows = rows.with_columns(
        _text(pl.col("title")).alias("title"),
        to_column("categories", [_names(names) for names in rows["categories"].to_list()], pl.List(pl.String)),
    )
    title = pl.col("title")
    unseen = title.str.replace_all(_INVISIBLE, "").str.strip_chars() == ""
    rows = _drop(rows, title.is_null() | unseen, "item without title", name, ledger)
    rows = _drop(rows, title.str.contains(_SCRAP), "item with a scrap of a page as its title", name, ledger)
    rows = _drop(rows, pl.col("categories").list.len() == 0, "item without category", name, ledger)
    rows = _drop(rows, ~pl.col("item").is_first_distinct(), "item listed again", name, ledger)
    return rows.select("item", "title", "categories")


def _names(names: list[str | None] | None) -> list[str]:
    return [name for name in dict.fromkeys(_name(name) for name in names or () if name) if name]


@functools.lru_cache(1 << 16)  # many items share few categories
def _name(raw: str) -> str:
    """A category as it is shown; empty where it is none."""
    name = _BREAK.sub(" ", raw).strip()
    return "" if _PAGE.search(name) else name
