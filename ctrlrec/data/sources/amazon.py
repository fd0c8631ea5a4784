"""Amazon reviews by product category: the releases of 2014, 2018 (v2) and 2023, told apart by what is in the files."""

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
from ctrlrec.data.missing import is_missing
from ctrlrec.data.objects import Schema, to_column
from ctrlrec.data.sources.base import INTERACTION_FIELDS, Source
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.downloads import fetch

_LITERAL = re.compile(rb"""^\s*\{\s*(?:'|u['"])""", re.MULTILINE)
# How the releases of 2023 and before, and files with a header of one's own, name user, item and time. A parent stands
# for all variants of an item.
_NAMES = (("user_id", "parent_asin", "timestamp"), ("reviewerID", "asin", "unixReviewTime"), INTERACTION_FIELDS)
_OF_2023 = b'"parent_asin"'
_FOLDER = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2"


def _locate(config: DatasetConfig, cache: Path) -> tuple[SourceFile, SourceFile]:
    name = config.category
    if not config.path:
        if not name:
            raise CtrlRecError("dataset.category is empty: name one such as Movies_and_TV, or set dataset.path=FOLDER")
        # The publishers give no checksum; the data card says what was received.
        reviews = fetch(f"{_FOLDER}/categoryFilesSmall/{name}_5.json.gz", None, cache)
        return SourceFile(reviews), SourceFile(fetch(f"{_FOLDER}/metaFiles2/meta_{name}.json.gz", None, cache))
    place = Path(config.path)
    metadata = find(place, (f"meta_{name or '*'}.json", f"meta_{name or '*'}.jsonl"))
    name = metadata.name.removesuffix(".gz").removeprefix("meta_").removesuffix("l").removesuffix(".json")
    reviews_2018, reviews_2014 = (f"{name}_5.json", f"{name}.json"), (f"reviews_{name}_5.json", f"reviews_{name}.json")
    ratings = (f"ratings_{name}.csv", f"{name}.csv")
    return find(place, (*reviews_2018, *reviews_2014, f"{name}.jsonl", *ratings)), metadata


def _interactions(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Read reviews, or ratings alone: with a header, or with columns that the older releases order differently."""
    if not file.name.removesuffix(".gz").endswith(".csv"):
        names = _NAMES[0] if _OF_2023 in _head(file) else _NAMES[1]
        for rows in _objects(file, dict.fromkeys(names, pl.String), ledger):
            yield rows.rename(dict(zip(names, INTERACTION_FIELDS, strict=True)))
        return
    header = {name.strip(' "\r') for name in _head(file).partition(b"\n")[0].decode("latin-1").split(",")}
    named = next((names for names in _NAMES if header >= set(names)), None)
    if named:
        for rows in read_table(file, ",", named, ledger):
            yield rows.rename(dict(zip(named, INTERACTION_FIELDS, strict=True)))
    else:
        order = ("user", "item") if file.name.startswith("ratings_") else ("item", "user")
        yield from read_table(file, ",", INTERACTION_FIELDS, ledger, header=(*order, "rating", "timestamp"))


def _items(file: SourceFile, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Read items with every prefix of their path, its root left out, as a category.

    2014: Python literals, ``categories`` with one or more paths. 2018: JSON, one path ``category``. 2023: JSON, one
    path ``categories``.
    """
    text, name_list = pl.String, pl.List(pl.String)
    one_path = _OF_2023 in _head(file)
    schema = {"parent_asin": text, "asin": text, "title": text, "category": name_list}
    for rows in _objects(file, schema | {"categories": name_list if one_path else pl.List(name_list)}, ledger):
        listed = rows["categories"].to_list()
        if one_path:
            names = [_prefixes([path]) for path in listed]
        else:
            names = [_prefixes(paths or [path]) for paths, path in zip(listed, rows["category"].to_list(), strict=True)]
        item = pl.coalesce("parent_asin", "asin").alias("item")
        yield rows.select(item, "title", to_column("categories", names, name_list), "line")


def _objects(file: SourceFile, schema: Schema, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Read Python literals if a line at the beginning starts like one, else JSON."""
    return (read_literals if _LITERAL.search(_head(file)) else read_json_lines)(file, schema, ledger)


def _head(file: SourceFile) -> bytes:
    with file.open() as stream:
        return read_bytes(stream, file, 1 << 16).removeprefix(codecs.BOM_UTF8)


def _prefixes(paths: list[list[str | None] | None]) -> list[str]:
    parts = ([part.strip() for part in path[1:] if part and not is_missing(part)] for path in paths if path)
    return [", ".join(path[: end + 1]) for path in parts for end in range(len(path))]


SOURCE = Source(CategoryKind.path, _locate, _interactions, _items)
