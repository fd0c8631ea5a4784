"""Small datasets in every published format, written into a temporary folder."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ctrlrec.config.schema import CategoryKind, DatasetConfig, Split
from ctrlrec.data.prepare import Prepared


def uncut(titles: list[str], categories: list[str]) -> list[str]:
    return titles


def all_writable(names: list[str]) -> list[bool]:
    return [True] * len(names)


def config(source: str, folder: Path, **settings: Any) -> DatasetConfig:
    defaults: dict[str, Any] = {
        "name": source,
        "source": source,
        "path": str(folder),
        "category": None,
        "categories": CategoryKind.auto,
        "attributes": [],
        "min_user_interactions": 1,
        "min_item_interactions": 1,
        "most_popular": None,
        "title_max_tokens": 64,
        "history_length": 10,
        "split": Split.last_out,
        "validation_share": 0.1,
        "test_share": 0.1,
    }
    return DatasetConfig(**(defaults | settings))


def write(path: Path, lines: Iterable[str] | bytes) -> Path:
    """A file of lines, gzipped where its name says so."""
    data = lines if isinstance(lines, bytes) else "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def items(count: int, category: str = "Drama") -> list[str]:
    """Lines of items.jsonl: ids i0, i1, ..., titles "Title 0", ..."""
    return [json.dumps({"item": f"i{n}", "title": f"Title {n}", "categories": [category]}) for n in range(count)]


def records(folder: Path, interactions: Iterable[tuple[Any, Any, Any]], metadata: Iterable[str]) -> None:
    write(folder / "interactions.csv", ["user,item,timestamp", *(",".join(map(str, row)) for row in interactions)])
    write(folder / "items.jsonl", metadata)


def titles(prepared: Prepared) -> dict[str, list[str]]:
    """Each user's titles in time order."""
    sequences = prepared.sequences
    rows = [sequences.items[a:b] for a, b in zip(sequences.offsets, sequences.offsets[1:], strict=False)]
    return {
        user: [prepared.catalogue.titles[item] for item in row] for user, row in zip(sequences.users, rows, strict=True)
    }


def skipped(prepared: Prepared) -> dict[str, int]:
    return {reason: found["rows"] for reason, found in prepared.report["skipped"].items()}
