"""JSON Lines as columns."""

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.lines import read_blocks, refuse_unreadable

_BAD_LINE = "line that is not a JSON object"


def read_json_lines(file: SourceFile, schema: Mapping[str, Any], ledger: Ledger) -> pl.DataFrame:
    """Some fields of a JSON Lines file, and the ``line`` of every row."""
    frames, rows = [], 0
    for block in read_blocks(file):
        good = []
        for number, line in enumerate(block.text.split("\n"), block.first_line):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                good.append({**{name: row.get(name) for name in schema}, "line": number})
            except (ValueError, AttributeError, RecursionError):
                ledger.skip(_BAD_LINE, 1, [f"{file.name}:{number}"])
        frames.append(pl.DataFrame(good, schema={**schema, "line": pl.UInt32}, strict=False))
        rows += len(good)
        refuse_unreadable(file, ledger, _BAD_LINE, rows, f"one JSON object with {', '.join(schema)} a line")
    return pl.concat(frames)
