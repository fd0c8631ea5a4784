"""MovieLens since 2015 as GroupLens publishes it: ratings.csv and movies.csv (latest, 32M, and any between)."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ctrlrec.config.schema import CategoryKind, DatasetConfig
from ctrlrec.data.delimited import read_table
from ctrlrec.data.files import SourceFile, find
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.sources.base import NO_GENRES, Source
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.downloads import fetch

_FOLDER = "https://files.grouplens.org/datasets/movielens"
_ARCHIVES = {
    "movielens_latest": (
        f"{_FOLDER}/ml-latest-small.zip",
        "sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
    ),
    "movielens_32m": (f"{_FOLDER}/ml-32m.zip", "md5:d472be332d4daa821edc399621853b57"),
}


def _locate(config: DatasetConfig, cache: Path) -> tuple[SourceFile, SourceFile]:
    if config.path:
        place = Path(config.path)
    elif config.name in _ARCHIVES:
        place = fetch(*_ARCHIVES[config.name], cache)
    else:
        raise CtrlRecError(
            f"dataset.path is empty and dataset.name={config.name} has no known download: set dataset.path"
        )
    return find(place, ("ratings.csv",)), find(place, ("movies.csv",))


def _interactions(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    for rows in read_table(file, ",", ("userId", "movieId", "timestamp"), ledger):
        yield rows.rename({"userId": "user", "movieId": "item"})


def _items(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    genres = pl.col("genres").replace(NO_GENRES, None).str.split("|")
    for rows in read_table(file, ",", ("movieId", "title", "genres"), ledger):
        yield rows.select(pl.col("movieId").alias("item"), "title", genres.alias("categories"), "line")


SOURCE = Source(CategoryKind.flat, _locate, _interactions, _items)
