"""Clean interactions and items of a source; parsed results are cached."""

import hashlib
import json
import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock

from ctrlrec.config.schema import CategoryKind, DatasetConfig
from ctrlrec.data.catalogue import is_path
from ctrlrec.data.cleaning import clean_interactions, clean_items
from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.lines import refuse_unreadable
from ctrlrec.data.sources import SOURCES, Source
from ctrlrec.data.times import settle_units
from ctrlrec.runtime.code import digests as code_digests

log = logging.getLogger(__name__)


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


def read_raw(config: DatasetConfig, cache: Path) -> Raw:
    """Return the cleaned logs of a source; parsed results are cached by files and by the code of this package.

    Args:
        config: the dataset's settings.
        cache: folder for downloads and parsed logs.

    Raises:
        CtrlRecError: for a file that is missing, broken or of another format.
    """
    source = SOURCES[config.source]
    files = source.locate(config, cache)
    digests = [{"name": file.name, "sha256": file.sha256()} for file in files]
    code = {room: found["code"] for room, found in code_digests("data.raw", {"data.sources": [config.source]}).items()}
    key = hashlib.sha256(json.dumps([code, config.source, digests]).encode()).hexdigest()[:16]
    folder = cache / "parsed" / f"{config.source}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        parsed = _read(folder)
        if parsed is None:
            shutil.rmtree(folder, ignore_errors=True)
            _parse(source, files, {"source": config.source, "files": digests}, folder)
            parsed = _read(folder)
    assert parsed is not None
    interactions, items, report = parsed
    kind = config.categories if config.categories != CategoryKind.auto else source.kind
    if kind == CategoryKind.auto:
        kind = CategoryKind.path if is_path(items["categories"].to_list()) else CategoryKind.flat
    return Raw(interactions, items, kind, report)


def _read(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]] | None:
    """Read what :func:`_parse` left: interactions, items, report; None if it is missing or damaged."""
    if not folder.is_dir():
        return None
    try:
        interactions, items = (pl.read_parquet(folder / f"{name}.parquet") for name in ("interactions", "items"))
        return interactions, items, json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        log.warning("%s: damaged (%s), the files are parsed again", folder, str(error).splitlines()[0])
        return None


def _parse(source: Source, files: tuple[SourceFile, SourceFile], report: dict[str, Any], folder: Path) -> None:
    """Read and clean both files block by block; the folder appears only when it is whole."""
    logs, metadata = files
    ledger, of_logs = Ledger(), Ledger()  # apart: each counts the unreadable rows of its own file
    items = clean_items(pl.concat(source.items(metadata, ledger)), metadata.name, ledger)
    refuse_unreadable(metadata, ledger, len(items) + ledger.total())
    rows = source.interactions(logs, of_logs)
    interactions = pl.concat(clean_interactions(block, logs.name, of_logs) for block in rows)
    refuse_unreadable(logs, of_logs, len(interactions) + of_logs.total())
    timestamps, times = settle_units(interactions.select("timestamp", "unit"))
    interactions = interactions.select("user", "item", timestamps)
    ledger.add(of_logs)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        items.write_parquet(scratch / "items.parquet")
        interactions.write_parquet(scratch / "interactions.parquet")
        (scratch / "report.json").write_text(
            json.dumps(report | {"times": times, "skipped": ledger.report()}), encoding="utf-8"
        )
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
