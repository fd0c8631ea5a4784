"""MovieLens-1M as GroupLens publishes it: ratings.dat (or a part of it) and movies.dat, "::" between, Latin-1."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ctrlrec.config.schema import CategoryKind, DatasetConfig
from ctrlrec.data.delimited import read_table
from ctrlrec.data.files import SourceFile, find
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.sources.base import INTERACTION_FIELDS, NO_GENRES, Source
from ctrlrec.runtime.downloads import fetch

_URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
_SHA256 = "sha256:a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"


def _locate(config: DatasetConfig, cache: Path) -> tuple[SourceFile, SourceFile]:
    place = Path(config.path) if config.path else fetch(_URL, _SHA256, cache)
    return find(place, ("ratings.dat", "ratings*.dat")), find(place, ("movies.dat",))


def _interactions(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    header = ("user", "item", "rating", "timestamp")
    return read_table(file, "::", INTERACTION_FIELDS, ledger, header=header, quoted=False)


def _items(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    header = ("item", "title", "categories")
    for rows in read_table(file, "::", header, ledger, header=header, quoted=False, latin1=True):
        yield rows.with_columns(pl.col("categories").replace(NO_GENRES, None).str.split("|"))


SOURCE = Source(CategoryKind.flat, _locate, _interactions, _items)
