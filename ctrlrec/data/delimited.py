"""Tables with a separator: CSV, TSV, MovieLens' "::" and "|". Quoted fields take the slow, exact road."""

import csv
import io
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import polars as pl

from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.lines import Block, read_ahead, read_blocks, refuse_unreadable
from ctrlrec.errors import CtrlRecError

_BATCH = 200_000  # rows
_SHOWN = 200  # characters of a strange header
_WRONG_FIELDS = "row with a wrong number of fields"
_BROKEN = "row with a stray double quote or a bare carriage return"


def read_table(
    file: SourceFile,
    separator: str,
    columns: Sequence[str],
    ledger: Ledger,
    *,
    header: Sequence[str] | None = None,
    quoted: bool = True,
    latin1: bool = False,
) -> Iterator[pl.DataFrame]:
    """Yield some columns of a table as text (empty is null) with the ``line`` of every row, a frame a block.

    Args:
        file: what to read.
        separator: between fields.
        columns: those to keep.
        ledger: takes rows with a wrong number of fields.
        header: names of the fields if the file has no header line.
        quoted: whether a field may stand in double quotes.
        latin1: see :func:`read_blocks`.

    Raises:
        CtrlRecError: for a missing column, or a file that is mostly something else.
    """
    blocks = read_ahead(read_blocks(file, latin1=latin1))
    rows, broken = 0, Ledger()
    for block in blocks:
        if header is None:
            first, _, text = block.text.partition("\n")
            try:
                header = [name.strip() for name in next(csv.reader([first.rstrip("\r")], delimiter=separator))]
            except csv.Error as error:
                raise CtrlRecError(f"{file}:1: no header with {', '.join(columns)} ({error})") from None
            block = Block(block.first_line + 1, text)
        missing = [name for name in columns if name not in header]
        if missing:
            raise CtrlRecError(
                f"{file}:1: no column {', '.join(missing)}; expected {', '.join(columns)}, found "
                f"{', '.join(header)[:_SHOWN]}"
            )
        if quoted and '"' in block.text:
            parts = _quoted(file, itertools.chain([block], blocks), separator, columns, header, broken)
        else:
            parts = iter([_plain(file, block, separator, columns, header, broken)])
        for part in parts:
            rows += len(part)
            refuse_unreadable(file, broken, rows + broken.total())
            yield part
    ledger.add(broken)
    if not rows:
        raise CtrlRecError(f"{file}: a header and no rows; is it the right file?")


def _plain(
    file: SourceFile, block: Block, separator: str, columns: Sequence[str], header: Sequence[str], ledger: Ledger
) -> pl.DataFrame:
    line = pl.Series("text", [block.text]).str.split("\n").explode().str.strip_chars_end("\r")
    frame = pl.DataFrame({"text": line}).with_row_index("line", block.first_line).filter(pl.col("text") != "")
    right = pl.col("text").str.count_matches(separator, literal=True) == len(header) - 1
    wrong = frame.filter(~right)
    places = [f"{file.name}:{line}" for line in wrong["line"].head(3)]
    ledger.unreadable(_WRONG_FIELDS, len(wrong), places, _expected(header, separator))
    fields = pl.col("text").str.split_exact(separator, len(header) - 1).struct
    wanted = [fields.field(f"field_{header.index(name)}").replace("", None).alias(name) for name in columns]
    return frame.filter(right).select(*wanted, pl.col("line").cast(pl.UInt32))


def _expected(header: Sequence[str], separator: str) -> str:
    return f"{len(header)} fields separated by {separator!r}"


def _quoted(
    file: SourceFile,
    blocks: Iterable[Block],
    separator: str,
    columns: Sequence[str],
    header: Sequence[str],
    ledger: Ledger,
) -> Iterator[pl.DataFrame]:
    """Return all the rest of a file: a quoted field may hold line breaks, so that rows cross the ends of blocks."""
    blocks = iter(blocks)
    block = next(blocks)
    texts = itertools.chain([block.text], (later.text for later in blocks))
    unread = (line for text in texts for line in io.StringIO(text, newline="\n"))
    taken: list[str] = []  # lines of the row being read
    again: deque[str] = deque()  # lines after a broken one, before those unread

    def lines() -> Iterator[str]:
        while (line := again.popleft() if again else next(unread, None)) is not None:
            taken.append(line)
            yield line

    picks = [header.index(name) for name in columns]
    schema: dict[str, Any] = {**dict.fromkeys(columns, pl.String), "line": pl.UInt32}
    batch: list[list[Any]] = []
    line = block.first_line
    reader = csv.reader(lines(), delimiter=separator, strict=True)
    while True:
        reason = _WRONG_FIELDS
        try:
            fields = next(reader, None)
        except csv.Error:
            fields, reason = [], _BROKEN
        if fields is None:
            break
        if len(fields) == len(header):
            batch.append([*(fields[pick] or None for pick in picks), line])
        elif fields or reason == _BROKEN:
            # A stray quote takes whole rows with it until another one ends the field: only its own line is broken.
            ledger.unreadable(reason, 1, [f"{file.name}:{line}"], _expected(header, separator))
            again.extendleft(reversed(taken[1:]))
            del taken[1:]
            reader = csv.reader(lines(), delimiter=separator, strict=True)
        line += len(taken)
        taken.clear()
        if len(batch) == _BATCH:
            yield pl.DataFrame(batch, schema=schema, orient="row")
            batch = []
    yield pl.DataFrame(batch, schema=schema, orient="row")
