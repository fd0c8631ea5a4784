"""What every source gives: who met what and when, and what the items are."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from ctrlrec.config import CategoryKind


@dataclass(frozen=True)
class Raw:
    """Logs as published, only cleaned: no rule of the catalogue is applied yet.

    Attributes:
        interactions: columns user (str), item (str), timestamp (int, microseconds), in file order.
        items: columns item (str, unique), title (str, clean), categories (list of str, none empty), in file order.
        category_kind: path or flat, never auto.
        report: numbers of the source for the data card.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    category_kind: CategoryKind
    report: dict[str, Any]
