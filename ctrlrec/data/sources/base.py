"""The definition of a source."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ctrlrec.config.schema import CategoryKind, DatasetConfig
from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger

INTERACTION_FIELDS = ("user", "item", "timestamp")
NO_GENRES = "(no genres listed)"  # the genre of films without one in MovieLens


@dataclass(frozen=True)
class Source:
    """How the two files of a dataset are found and read; cleaning is the same for all.

    Attributes:
        kind: of its categories; auto if the source does not say.
        locate: (config, cache) -> the interactions file and the items file, downloaded if possible.
        interactions: blocks with columns user, item, timestamp (text or number) and line, in file order.
        items: blocks with columns item, title (null: none), categories (list of str) and line, in file order.
    """

    kind: CategoryKind
    locate: Callable[[DatasetConfig, Path], tuple[SourceFile, SourceFile]]
    interactions: Callable[[SourceFile, Ledger], Iterator[pl.DataFrame]]
    items: Callable[[SourceFile, Ledger], Iterator[pl.DataFrame]]
