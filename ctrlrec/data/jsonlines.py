"""JSON Lines as columns."""

import io
import json
from collections.abc import Iterator
from typing import Any

import polars as pl

from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.objects import Schema, read_objects


def read_json_lines(file: SourceFile, schema: Schema, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Some fields of a JSON Lines file, and the ``line`` of every row; see :func:`read_objects`."""

    def block(text: str) -> pl.DataFrame | None:
        try:
            frame = pl.read_ndjson(io.BytesIO(text.encode()), schema=dict(schema))
        except pl.exceptions.PolarsError:
            return None
        # The fast parser writes NUL for half a surrogate pair; the exact one marks it.
        texts = [name for name, kind in schema.items() if kind == pl.String]
        return (
            None
            if frame.select(pl.any_horizontal(pl.col(texts).str.contains("\0", literal=True).any())).item()
            else frame
        )

    return read_objects(file, schema, ledger, "a JSON object", block, _line)


def _line(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(row, dict):
        raise ValueError("not an object")
    return row
