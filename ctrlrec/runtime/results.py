"""Finished results: what they record, and what they were made from. Imports nothing heavy."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECORD = "provenance.json"
_UNFINISHED = (".partial", ".replaced")  # results that are being made, or that a rebuilt one took the place of


def read(directory: Path) -> dict[str, Any]:
    """Return the ``provenance.json`` of a result; empty if there is none that can be read."""
    return read_json(directory / RECORD, {})


def read_json(path: Path, otherwise: Any) -> Any:
    """Return what a JSON file holds, or something else if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise


def made_from(directory: Path, upstream: Mapping[str, Any]) -> dict[str, Path]:
    """Return the directories by stage that a finished result was made from.

    They lie beside it in its output folder, which may have been moved, or be seen from elsewhere, since it was made.

    Args:
        directory: of the result.
        upstream: the part of this name of its ``provenance.json``.
    """
    output = directory.absolute().parents[1]
    return {stage: output / stage / Path(found["directory"]).name for stage, found in upstream.items()}


def finished(stage: Path, file: str) -> list[Path]:
    """Return the finished results of a stage that hold a file, by name."""
    return [path.parent for path in sorted(stage.glob(f"*/{file}")) if path.parent.suffix not in _UNFINISHED]
