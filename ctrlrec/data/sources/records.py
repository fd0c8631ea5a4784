"""Records: the plain format for data of the user's own."""

from pathlib import Path

import polars as pl

from ctrlrec.config import CategoryKind, DatasetConfig
from ctrlrec.data.delimited import read_table
from ctrlrec.data.files import SourceFile, find
from ctrlrec.data.jsonlines import read_json_lines
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.sources.base import Source
from ctrlrec.errors import CtrlRecError

_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_LIST_SEPARATOR = "|"  # of categories in a CSV or TSV field
_INTERACTIONS = ("user", "item", "timestamp")
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


def _interactions(file: SourceFile, ledger: Ledger) -> pl.DataFrame:
    ending = _ending(file)
    if ending in _SEPARATORS:
        return read_table(file, _SEPARATORS[ending], _INTERACTIONS, ledger)
    if ending == ".parquet":
        return _parquet(file, _INTERACTIONS, ("user", "item"))
    return read_json_lines(file, dict.fromkeys(_INTERACTIONS, pl.String), ledger)


def _items(file: SourceFile, ledger: Ledger) -> pl.DataFrame:
    ending = _ending(file)
    if ending in _SEPARATORS:
        rows = read_table(file, _SEPARATORS[ending], _ITEMS, ledger)
    elif ending == ".parquet":
        rows = _parquet(file, _ITEMS, ("item", "title"))
    else:
        schema = {"item": pl.String, "title": pl.String, "categories": pl.List(pl.String)}
        return read_json_lines(file, schema, ledger)
    if rows.schema["categories"] == pl.String:
        rows = rows.with_columns(pl.col("categories").str.split(_LIST_SEPARATOR))
    return rows


def _parquet(file: SourceFile, columns: tuple[str, ...], text: tuple[str, ...]) -> pl.DataFrame:
    with file.open() as stream:
        try:
            frame = pl.read_parquet(stream, columns=list(columns))
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise CtrlRecError(f"{file}: not a parquet file with columns {', '.join(columns)} ({reason})") from None
    row = pl.int_range(1, pl.len() + 1, dtype=pl.UInt32).alias("line")
    return frame.with_columns(pl.col(text).cast(pl.String), row)


SOURCE = Source(CategoryKind.auto, _locate, _interactions, _items)
