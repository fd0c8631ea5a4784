"""Records: the plain format for data of the user's own, as CSV, TSV, JSON Lines or parquet."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from polars import selectors

from ctrlrec.config.schema import CategoryKind, DatasetConfig
from ctrlrec.data.delimited import read_table
from ctrlrec.data.files import SourceFile, find
from ctrlrec.data.jsonlines import read_json_lines
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.literals import EXPECTED_LIST, is_list, read_list
from ctrlrec.data.missing import is_missing
from ctrlrec.data.objects import coerce, to_column
from ctrlrec.data.sources.base import INTERACTION_FIELDS, Source
from ctrlrec.errors import CtrlRecError

_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LIST_SEPARATOR = "|"  # of categories in a CSV or TSV field
_ITEMS = ("item", "title", "categories")


def _locate(config: DatasetConfig, cache: Path) -> tuple[SourceFile, SourceFile]:
    if not config.path:
        raise CtrlRecError(
            "dataset.path is empty: name the folder with interactions.csv (user,item,timestamp) and items.jsonl "
            "(item, title, categories)"
        )
    place = Path(config.path)
    return (
        find(place, [f"interactions{ending}" for ending in _ENDINGS]),
        find(place, [f"items{ending}" for ending in (".jsonl", ".parquet", ".csv", ".tsv")]),
    )


def _ending(file: SourceFile) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _interactions(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    ending = _ending(file)
    if ending in _SEPARATORS:
        yield from read_table(file, _SEPARATORS[ending], INTERACTION_FIELDS, ledger)
    elif ending == ".parquet":
        yield _parquet(file, INTERACTION_FIELDS)
    else:
        yield from read_json_lines(file, dict.fromkeys(INTERACTION_FIELDS, pl.String), ledger)


def _items(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Read items whose categories are a list, the text of a list, or names with "|" between.

    One name in brackets without quotes is a list of it, as DuckDB and Spark write it, only if the file holds lists
    alone: beside "Drama" and "Drama|Horror", "[REC]" is a name.
    """
    ending = _ending(file)
    if ending == ".jsonl":
        schema = dict(zip(_ITEMS, (pl.String, pl.String, pl.List(pl.String)), strict=True))
        blocks = list(read_json_lines(file, schema, ledger))
    elif ending == ".parquet":
        blocks = [_parquet(file, _ITEMS)]
    else:
        blocks = list(read_table(file, _SEPARATORS[ending], _ITEMS, ledger))
    rows = pl.concat(blocks)
    fields = [_field(value) for value in rows["categories"].to_list()]
    texts = {field for field in fields if isinstance(field, str) and not is_missing(field)}
    only_lists = all(map(is_list, texts))
    read = {text: _names(text, only_lists) for text in texts}
    names = [read.get(field) if isinstance(field, str) else field for field in fields]
    broken = [field in read and read[field] is None for field in map(str, fields)]
    places = [f"{file.name}:{line}" for line in rows["line"].filter(pl.Series(broken)).head(3)]
    ledger.unreadable("item with unreadable categories", sum(broken), places, EXPECTED_LIST)
    yield rows.with_columns(to_column("categories", names, pl.List(pl.String))).filter(~pl.Series(broken))


def _field(value: Any) -> str | Sequence[str | None] | None:
    """Return the categories of an item as one text or as a list; a list of one text is that text."""
    names = coerce(value, pl.List(pl.String))
    return names[0] if names is not None and len(names) == 1 else names


def _names(text: str, only_lists: bool) -> list[str | None] | None:
    """Return the names in a text; None if it is like a list, but cannot be read as one."""
    if not is_list(text):
        return list(text.split(_LIST_SEPARATOR))
    try:
        names = read_list(text)
    except ValueError:
        return None
    return [text] if len(names) == 1 and not only_lists and text[1:-1].strip() == names[0] else names


def _parquet(file: SourceFile, columns: tuple[str, ...]) -> pl.DataFrame:
    """Read columns of a parquet file as text; typed timestamps and lists of categories keep their type."""
    typed = selectors.numeric() | selectors.temporal() | selectors.by_name("categories", require_all=False)
    text = ~typed | selectors.by_name(*columns[:2])
    with file.open() as stream:
        try:
            frame = pl.read_parquet(stream, columns=list(columns)).with_columns(_whole(*columns[:2]))
            frame = frame.with_columns(text.cast(pl.String))
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise CtrlRecError(f"{file}: not a parquet file with columns {', '.join(columns)} ({reason})") from None
    row = pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).alias("line")
    return frame.with_columns(row)


def _whole(*ids: str) -> Any:
    """Return ids that pandas made floats because one was missing, as the integers they were; NaN is missing."""
    floats = selectors.by_name(*ids) & selectors.float()
    whole = floats.fill_nan(None).cast(pl.Int64, strict=False)
    return pl.when(whole == floats).then(whole.cast(pl.String)).otherwise(floats.fill_nan(None).cast(pl.String))


SOURCE = Source(CategoryKind.auto, _locate, _interactions, _items)
