"""Amazon reviews by product category: the release of 2018 (v2) and that of 2014, told apart by what is in the files."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from ctrlrec.config.schema import CategoryKind, DatasetConfig
from ctrlrec.data.delimited import read_table
from ctrlrec.data.files import SourceFile, find, read_bytes
from ctrlrec.data.jsonlines import read_json_lines
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.literals import read_literals
from ctrlrec.data.objects import Schema, to_column
from ctrlrec.data.sources.base import INTERACTION_FIELDS, Source
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.downloads import fetch

_LITERAL = re.compile(rb"""^\s*\{\s*(?:'|u['"])""", re.MULTILINE)
_FOLDER = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"


def _locate(config: DatasetConfig, cache: Path) -> tuple[SourceFile, SourceFile]:
    name = config.category
    if not config.path:
        if not name:
            raise CtrlRecError("dataset.category is empty: name one such as Movies_and_TV, or set dataset.path=FOLDER")
        # The publishers give no checksum; the data card says what was received.
        reviews = fetch(f"{_FOLDER}/categoryFilesSmall/{name}_5.json.gz", None, cache)
        return SourceFile(reviews), SourceFile(fetch(f"{_FOLDER}/metaFiles2/meta_{name}.json.gz", None, cache))
    place = Path(config.path).expanduser()
    metadata = find(place, (f"meta_{name or '*'}.json",))
    name = metadata.name.removesuffix(".gz").removeprefix("meta_").removesuffix(".json")
    reviews_2018, reviews_2014 = (f"{name}_5.json", f"{name}.json"), (f"reviews_{name}_5.json", f"reviews_{name}.json")
    return find(place, (*reviews_2018, *reviews_2014, f"ratings_{name}.csv", f"{name}.csv")), metadata


def _interactions(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Reviews, or ratings alone, whose columns the two releases order differently."""
    if file.name.removesuffix(".gz").endswith(".csv"):
        first, second = ("user", "item") if file.name.startswith("ratings_") else ("item", "user")
        header = (first, second, "rating", "timestamp")
        yield from read_table(file, ",", INTERACTION_FIELDS, ledger, header=header)
    else:
        names = {"reviewerID": "user", "asin": "item", "unixReviewTime": "timestamp"}
        for rows in _objects(file, dict.fromkeys(names, pl.String), ledger):
            yield rows.rename(names)


def _items(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Items with every prefix of their path, its root left out, as a category.

    2018: JSON, one path ``category``. 2014: Python literals, ``categories`` with one or more paths.
    """
    path = pl.List(pl.String)
    schema = {"asin": pl.String, "title": pl.String, "category": path, "categories": pl.List(path)}
    for rows in _objects(file, schema, ledger):
        one, many = rows["category"].to_list(), rows["categories"].to_list()
        names = [_prefixes(many_ or [one_ or []]) for one_, many_ in zip(one, many, strict=True)]
        yield rows.select(pl.col("asin").alias("item"), "title", to_column("categories", names, path), "line")


def _objects(file: SourceFile, schema: Schema, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Python literals where a line at the beginning starts like one, else JSON."""
    with file.open() as stream:
        literals = _LITERAL.search(read_bytes(stream, file, 1 << 16).removeprefix(codecs.BOM_UTF8))
    return (read_literals if literals else read_json_lines)(file, schema, ledger)


def _prefixes(paths: list[list[str] | None]) -> list[str]:
    parts = ([part.strip() for part in path[1:] if part and part.strip()] for path in paths if path)
    return [", ".join(path[: end + 1]) for path in parts for end in range(len(path))]


SOURCE = Source(CategoryKind.path, _locate, _interactions, _items)
