"""MovieLens-100K: out of the recbole wheel by default; also as GroupLens publishes it (u.data, u.item)."""

from pathlib import Path

import polars as pl

from ctrlrec.config import CategoryKind, DatasetConfig
from ctrlrec.data.delimited import read_table
from ctrlrec.data.files import SourceFile, find
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.sources.base import Source
from ctrlrec.data.wheels import fetch_wheel

_RECBOLE = ("recbole", "1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407")
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def _locate(config: DatasetConfig, cache: Path) -> tuple[SourceFile, SourceFile]:
    place = Path(config.path).expanduser() if config.path else fetch_wheel(*_RECBOLE, cache)
    return find(place, ("ml-100k.inter", "u.data")), find(place, ("ml-100k.item", "u.item"))


def _interactions(file: SourceFile, ledger: Ledger) -> pl.DataFrame:
    if "u.data" in file.name:
        header = ("user", "item", "rating", "timestamp")
        return read_table(file, "\t", ("user", "item", "timestamp"), ledger, header=header, quoted=False)
    columns = {"user_id:token": "user", "item_id:token": "item", "timestamp:float": "timestamp"}
    return read_table(file, "\t", tuple(columns), ledger, quoted=False).rename(columns)


def _items(file: SourceFile, ledger: Ledger) -> pl.DataFrame:
    """Items with titles as "Toy Story (1995)"; the film of genre "unknown" and title "unknown" has neither."""
    if "u.item" in file.name:
        header = ("item", "title", "date", "video", "url", *_GENRES)
        rows = read_table(file, "|", ("item", "title", *_GENRES), ledger, header=header, quoted=False, latin1=True)
        genres = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _GENRES[1:]]
        names = pl.concat_list(genres).list.drop_nulls()
        title = pl.col("title").replace("unknown", None)
    else:
        columns = {"item_id:token": "item", "movie_title:token_seq": "title", "class:token_seq": "genres"}
        rows = read_table(file, "\t", (*columns, "release_year:token"), ledger, quoted=False).rename(columns)
        names = pl.col("genres").str.split(" ").list.filter(pl.element() != "unknown")
        year = pl.col("release_year:token")
        dated = pl.format("{} ({})", pl.col("title"), year)
        title = pl.when(year.str.contains(r"^\d{4}$")).then(dated).otherwise(pl.col("title").replace("unkonwn", None))
    return rows.select("item", title.alias("title"), names.alias("categories"), "line")


SOURCE = Source(CategoryKind.flat, _locate, _interactions, _items)
