"""Records: the plain format for data of the user's own."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ctrlrec.config import CategoryKind, DatasetConfig
from ctrlrec.data.delimited import read_table
from ctrlrec.data.files import SourceFile, find
from ctrlrec.data.jsonlines import read_json_lines
from ctrlrec.data.ledger import Ledger
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
    place = Path(config.path).expanduser()
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
    ending = _ending(file)
    if ending == ".jsonl":
        yield from read_json_lines(
            file, dict(zip(_ITEMS, (pl.String, pl.String, pl.List(pl.String)), strict=True)), ledger
        )
        return
    blocks = [_parquet(file, _ITEMS)] if ending == ".parquet" else read_table(file, _SEPARATORS[ending], _ITEMS, ledger)
    for rows in blocks:
        listed = isinstance(rows.schema["categories"], pl.List)
        yield rows if listed else rows.with_columns(pl.col("categories").cast(pl.String).str.split(_LIST_SEPARATOR))


def _parquet(file: SourceFile, columns: tuple[str, ...]) -> pl.DataFrame:
    with file.open() as stream:
        try:
            frame = pl.read_parquet(stream, columns=list(columns))
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise CtrlRecError(f"{file}: not a parquet file with columns {', '.join(columns)} ({reason})") from None
    row = pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).alias("line")
    return frame.with_columns(pl.col(columns[:2]).cast(pl.String), row)


SOURCE = Source(CategoryKind.auto, _locate, _interactions, _items)
