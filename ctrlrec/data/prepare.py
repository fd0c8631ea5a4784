"""Raw logs to catalogue and sequences, rule by rule (spec section 2)."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ctrlrec.config.schema import CategoryKind, DatasetConfig
from ctrlrec.config.split import data_label
from ctrlrec.data.attributes import with_attributes
from ctrlrec.data.catalogue import Catalogue, target_categories
from ctrlrec.data.describe import describe
from ctrlrec.data.lines import UNREADABLE_SHARE
from ctrlrec.data.missing import missing
from ctrlrec.data.raw import Raw, read_raw
from ctrlrec.data.sequences import Sequences
from ctrlrec.data.sources import SOURCES
from ctrlrec.data.splits import Chosen, split
from ctrlrec.data.titles import innermost
from ctrlrec.errors import CtrlRecError

__all__ = ["Prepared", "Raw", "prepare", "read_raw", "source_digest"]

_ENTITY = r"&(?:[A-Za-z][A-Za-z0-9]+|#[0-9]+|#[xX][0-9A-Fa-f]+);"
_SHOWN = 40  # characters of an id
_NAMED = 5  # titles or categories that a message or the card names
_MANY, _LARGE_SHARE = 5, 0.01  # a title of at least this many items, and this share of all, is suspicious
_UNKNOWN = "interactions with an item that metadata lacks or leaves incomplete"
Cut = Callable[[list[str], list[str]], list[str]]  # titles and category names to titles
Writable = Callable[[list[str]], list[bool]]  # texts to whether the backbone can write them

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A dataset ready for use, with the numbers of its data card."""

    catalogue: Catalogue
    sequences: Sequences
    report: dict[str, Any]


def source_digest(config: DatasetConfig) -> str | None:
    """Digest the files at ``dataset.path``; None without a path.

    Raises:
        CtrlRecError: if a file is missing.
    """
    if not config.path:
        return None
    files = SOURCES[config.source].locate(config, Path())
    return hashlib.sha256(" ".join(file.sha256() for file in files).encode()).hexdigest()


def prepare(config: DatasetConfig, cache: Path, cut: Cut, writable: Writable) -> Prepared:
    """Apply the rules of the catalogue and the split.

    Args:
        config: the dataset's settings.
        cache: folder for downloads.
        cut: cuts titles to the backbone's token limit, none to nothing; called once with every cleaned title and every
            category.
        writable: whether the backbone's tokenizer gives a text back as it was; called after ``cut``.

    Raises:
        CtrlRecError: for unusable files, a tokenizer that cannot write a tenth of the titles or categories, or if the
            k-core leaves nobody.
    """
    raw = read_raw(config, cache)
    names = raw.interactions["user"].unique(maintain_order=True)
    report: dict[str, Any] = {"dataset": data_label(config), **raw.report}
    report["read"] = {"users": len(names), "items": len(raw.items), "interactions": len(raw.interactions)}
    if raw.items.is_empty():
        reasons = [f"{why}: {rows['rows']}, first {rows['first'][0]}" for why, rows in raw.report["skipped"].items()]
        raise CtrlRecError(f"dataset {config.name}: no item has both a title and a category ({'; '.join(reasons)})")
    if raw.interactions.is_empty():
        raise CtrlRecError(f"dataset {config.name}: its file of interactions has no rows")
    items = _cut_titles(raw.items, cut, report)
    items = _leave_out_unwritable(items, writable, report)
    items, code = _merge_titles(items, report)
    users, rows, times = _order(raw.interactions, names, code, report)
    _warn(raw.interactions, items, code, rows, report)
    users, rows, places = split(users, rows, times, (len(names), len(items)), config, report)
    return _index(config, raw.category_kind, items, names, (users, rows, places), report)


def _cut_titles(items: pl.DataFrame, cut: Cut, report: dict[str, Any]) -> pl.DataFrame:
    titles = items["title"].to_list()
    shortened = [title.strip() for title in cut(titles, _category_names(items))]
    report["titles"] = {
        "cut": sum(before != after for before, after in zip(titles, shortened, strict=True)),
        "with_entities": items["title"].str.contains(_ENTITY).sum(),
    }
    return items.with_columns(pl.Series("title", shortened, dtype=pl.String))


def _category_names(items: pl.DataFrame) -> list[str]:
    return items["categories"].explode().drop_nulls().unique(maintain_order=True).to_list()


def _leave_out_unwritable(items: pl.DataFrame, writable: Writable, report: dict[str, Any]) -> pl.DataFrame:
    """Leave out titles and categories that the backbone cannot write: nobody could ever answer or ask for them.

    Raises:
        CtrlRecError: for more than a tenth of the titles, or of the categories.
    """
    report["unwritable"] = {}
    for what, names in (("titles", items["title"].unique(maintain_order=True).to_list()),
                        ("categories", _category_names(items))):  # fmt: skip
        lost = [name for name, fine in zip(names, writable(names), strict=True) if not fine]
        report["unwritable"][what] = {"count": len(lost), "first": lost[:_NAMED]}
        if len(lost) > UNREADABLE_SHARE * len(names):
            raise CtrlRecError(
                f"dataset {report['dataset']}: the backbone's tokenizer cannot write {len(lost)} of {len(names)} "
                f"{what} ({', '.join(map(repr, lost[:_NAMED]))}{', ...' if len(lost) > _NAMED else ''}): encoded and "
                f"decoded they are other texts; use another backbone (model=), or clean the {what}"
            )
        if lost and what == "titles":
            items = items.filter(~pl.col("title").is_in(lost))
        elif lost:
            kept = pl.col("categories").list.eval(pl.element().filter(~pl.element().is_in(lost)))
            items = items.with_columns(kept).filter(pl.col("categories").list.len() > 0)
    report["unwritable"]["items"] = report["read"]["items"] - len(items)
    return items


def _merge_titles(items: pl.DataFrame, report: dict[str, Any]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Make items with one title one item, with the first id and title and all their categories.

    Titles that differ only in outer quotes are one title, because an answer loses these.

    Returns:
        The merged items in source order, and columns item, row: where each id went.
    """
    answered = pl.Series("answered", [innermost(title) for title in items["title"].to_list()], dtype=pl.String)
    merged = items.with_columns(answered).group_by("answered", maintain_order=True).agg(
        pl.col("item", "title").first(), pl.col("item").alias("ids"),
        pl.col("categories").explode().unique(maintain_order=True)
    )  # fmt: skip
    report["titles"]["merged"] = len(items) - len(merged)
    rows = merged.with_row_index("row").select("row", "ids").explode("ids").rename({"ids": "item"})
    return merged.drop("ids", "answered"), rows


def _order(
    interactions: pl.DataFrame, names: pl.Series, code: pl.DataFrame, report: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user, item row and time of known interactions, each user's in time order, repeated ones once."""
    number = pl.DataFrame({"user": names}).with_row_index("number")
    # One column at a time: millions of rows of text are not copied for the sake of a join.
    coded = interactions.select(
        interactions.select("user").join(number, on="user", how="left", maintain_order="left")["number"],
        interactions.select("item").join(code, on="item", how="left", maintain_order="left")["row"],
        "timestamp",
    )
    known = coded.filter(pl.col("row").is_not_null()).select("number", "row", "timestamp")
    if known.is_empty():
        met, described = (frame["item"][0][:_SHOWN] for frame in (interactions, code))
        raise CtrlRecError(
            f"dataset {report['dataset']}: none of {len(interactions)} interactions has an item of the metadata; "
            f"interactions name items as {met!r}, the metadata as {described!r}: are both files of one dataset?"
        )
    # Two stable sorts by one column, and one number for the pair, are several times faster than by two columns.
    ordered = known.sort("timestamp", maintain_order=True).sort("number", maintain_order=True)
    pair = pl.col("number").cast(pl.Int64) * (1 << 32) + pl.col("row")
    first = ordered.filter(pair.is_first_distinct())
    report["dropped"] = {
        "users without any item that metadata describes": len(names) - known["number"].n_unique(),
        _UNKNOWN: len(interactions) - len(known),
        "items that nobody interacted with": code["row"].n_unique() - known["row"].n_unique(),
        "repeated interactions": len(known) - len(first),
    }
    return first["number"].to_numpy(), first["row"].to_numpy(), first["timestamp"].to_numpy()


def _warn(
    interactions: pl.DataFrame, items: pl.DataFrame, code: pl.DataFrame, rows: np.ndarray, report: dict[str, Any]
) -> None:
    """Log what is legal and improbable: one title for many items, people without a name, items without metadata."""
    ids, met = np.bincount(code["row"]), np.bincount(rows, minlength=len(items))
    most = int(ids.argmax())
    title = items["title"][most]
    report["shared_title"] = {"title": title, "items": int(ids[most]), "interactions": int(met[most])}
    if ids[most] >= _MANY and max(ids[most] / ids.sum(), met[most] / len(rows)) >= _LARGE_SHARE:
        log.warning(
            "%-12s %d of %d items, with %d of %d interactions, have the title %r and become one item: does it "
            "stand for a missing title?", "", ids[most], ids.sum(), met[most], len(rows), title,
        )  # fmt: skip
    nameless = interactions.filter(missing(pl.col("user")))
    if len(nameless) >= _LARGE_SHARE * len(interactions):
        log.warning(
            "%-12s %d of %d interactions are of user %r: if it stands for people without a name, leave them out",
            "", len(nameless), len(interactions), nameless["user"][0],
        )  # fmt: skip
    unknown = report["dropped"][_UNKNOWN]
    if unknown > UNREADABLE_SHARE * len(interactions):
        log.warning("%-12s %d of %d %s and are left out", "", unknown, len(interactions), _UNKNOWN)


def _index(
    config: DatasetConfig,
    kind: CategoryKind,
    items: pl.DataFrame,
    names: pl.Series,
    chosen: Chosen,
    report: dict[str, Any],
) -> Prepared:
    """Return catalogue of the items left, in source order; sequences of the users left, by first appearance."""
    users, rows, places = chosen
    kept_rows, indices = np.unique(rows, return_inverse=True)
    kept_users, lengths = np.unique(users, return_counts=True)
    kept = items[kept_rows]
    categories = kept["categories"].to_list()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids, items_of = tuple(names[kept_users].to_list()), indices.astype(np.int32)
    sequences = Sequences(ids, offsets, items_of, config.history_length, places)
    trained = np.bincount(indices[sequences.is_training], minlength=len(kept))
    catalogue = Catalogue(
        tuple(kept["item"].to_list()),
        tuple(kept["title"].to_list()),
        tuple(tuple(names) for names in categories),
        tuple(target_categories(categories, kind == CategoryKind.flat)),
        tuple(trained.tolist()),
    )
    catalogue = with_attributes(catalogue, config.attributes)
    report["kept"] = describe(catalogue, sequences, kind)
    return Prepared(catalogue, sequences, report)
