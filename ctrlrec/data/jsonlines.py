"""JSON Lines as columns."""

import io
import json
from collections.abc import Iterator
from typing import Any

import polars as pl

from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.objects import Schema, read_objects

# The fast parser writes NUL for half a surrogate pair, and whatever stands in the place of text as JSON.
_DOUBTFUL = r"\x00|^(?:[\[{]|true$|false$)"


def read_json_lines(file: SourceFile, schema: Schema, ledger: Ledger) -> Iterator[pl.DataFrame]:
    """Yield some fields of a JSON Lines file with the ``line`` of every row; see :func:`read_objects`."""

    def block(text: str) -> pl.DataFrame | None:
        try:
            frame = pl.read_ndjson(io.BytesIO(text.encode()), schema=dict(schema))
        except pl.exceptions.PolarsError:
            return None
        return None if any(_doubtful(column) for column in frame) else frame

    return read_objects(file, schema, ledger, "a JSON object", block, _line)


def _doubtful(column: pl.Series) -> bool:
    while isinstance(column.dtype, pl.List):
        column = column.explode()
    return bool(column.str.contains(_DOUBTFUL).any())


def _line(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(row, dict):
        raise ValueError("not an object")
    return row
