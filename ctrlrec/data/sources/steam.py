"""Steam (Kang and McAuley 2018): steam_reviews.json.gz and steam_games.json.gz, one Python literal a line."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ctrlrec.config.schema import CategoryKind, DatasetConfig
from ctrlrec.data.files import SourceFile, find
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.literals import read_literals
from ctrlrec.data.sources.base import Source
from ctrlrec.runtime.downloads import fetch

_FOLDER = "https://cseweb.ucsd.edu/~wckang"
_FILES = ("steam_reviews.json", "steam_games.json")


def _locate(config: DatasetConfig, cache: Path) -> tuple[SourceFile, SourceFile]:
    if config.path:
        reviews, games = (find(Path(config.path), (name,)) for name in _FILES)
    else:  # the publishers give no checksum; the data card says what was received
        reviews, games = (SourceFile(fetch(f"{_FOLDER}/{name}.gz", None, cache)) for name in _FILES)
    return reviews, games


def _interactions(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    names = {"username": "user", "product_id": "item", "date": "timestamp"}
    for rows in read_literals(file, dict.fromkeys(names, pl.String), ledger):
        yield rows.rename(names)


def _items(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Return games with their tags, or their genres if they have no tag; ``app_name`` if ``title`` is missing."""
    names = pl.List(pl.String)
    schema = {"id": pl.String, "title": pl.String, "app_name": pl.String, "tags": names, "genres": names}
    named = pl.col("tags").list.filter(pl.element().str.strip_chars() != "")
    tags = pl.when(named.list.len() > 0).then(named).otherwise("genres")
    title = pl.when(pl.col("title").str.strip_chars() != "").then("title").otherwise("app_name")
    for rows in read_literals(file, schema, ledger):
        yield rows.select(
            pl.col("id").alias("item"),
            title.alias("title"),
            tags.alias("categories"),
            "line",
        )


SOURCE = Source(CategoryKind.flat, _locate, _interactions, _items)
