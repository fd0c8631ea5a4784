"""Files with one object a line, whatever the notation: whole blocks at once, a damaged block line by line."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.lines import read_ahead, read_blocks, refuse_unreadable

Schema = Mapping[str, Any]  # polars types: String, or lists of it, nested as deep as needed
_SURROGATE = re.compile("[\ud800-\udfff]+")


def read_objects(
    file: SourceFile,
    schema: Schema,
    ledger: Ledger,
    notation: str,
    parse_block: Callable[[str], pl.DataFrame | None],
    parse_line: Callable[[str], Mapping[str, Any]],
) -> Iterator[pl.DataFrame]:
    """Yield some fields of every object as text or lists of text, with its ``line``, a frame a block.

    Args:
        file: what to read.
        schema: the fields to keep.
        ledger: takes lines that are not objects.
        notation: for messages, such as "a JSON object".
        parse_block: fast: all lines of a block, or None if it cannot; its rows must be the block's lines.
        parse_line: exact: one line, or ValueError.

    Raises:
        CtrlRecError: for a file that is mostly something else; see also :func:`read_blocks`.
    """
    reason, expected = f"line that is not {notation}", f"{notation} with {', '.join(schema)} a line"
    rows, broken = 0, Ledger()
    for block in read_ahead(read_blocks(file)):
        lines = block.text.count("\n") + (not block.text.endswith("\n"))
        frame = parse_block(block.text)
        if frame is not None and len(frame) == lines:
            numbers = pl.int_range(block.first_line, block.first_line + lines, dtype=pl.UInt32, eager=True)
            frame = frame.with_columns(numbers.alias("line"))
        else:
            found: list[dict[str, Any]] = []
            for number, line in enumerate(block.text.split("\n"), block.first_line):
                if line.strip():
                    try:
                        row = parse_line(line)
                    except ValueError:
                        broken.unreadable(reason, 1, [f"{file.name}:{number}"], expected)
                        continue
                    found.append(
                        {name: coerce(row.get(name), kind) for name, kind in schema.items()} | {"line": number}
                    )
            frame = pl.DataFrame(found, schema={**schema, "line": pl.UInt32})
        rows += len(frame)
        refuse_unreadable(file, broken, rows + broken.total())
        yield frame
    ledger.add(broken)


def to_column(name: str, values: Sequence[Any], kind: Any) -> pl.Series:
    """Return text or (nested) lists of text as a column; polars alone takes lists row by row, which is much slower."""
    return pl.Series(name, pa.array(values, pl.Series(dtype=kind).to_arrow().type))


def coerce(value: Any, kind: Any) -> Any:
    """Return a parsed value as text or (nested) list of text; if a list is expected, one value becomes a list.

    What is neither text nor a number is missing: a list or dictionary in place of text, a truth value, NaN. A number
    is written as the fast JSON parser does, 5.0 as "5", so that a damaged neighbour changes no text.
    """
    if isinstance(kind, pl.List) and value is not None:
        values = value if isinstance(value, (list, tuple)) else [value]
        return [coerce(each, kind.inner) for each in values]
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-") if np.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    # Half a surrogate pair is not a character; Python's own way to mark one is U+FFFD.
    return _SURROGATE.sub(_join_surrogates, value) if isinstance(value, str) else None


def _join_surrogates(found: re.Match[str]) -> str:
    return found[0].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
