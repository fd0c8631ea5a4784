"""Text files as blocks of whole lines: bounded memory, and every problem with its file and line."""

import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from ctrlrec.data.files import AGAIN, SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.errors import CtrlRecError

BLOCK_BYTES = 8 << 20
_MAX_LINE_BYTES = 64 << 20  # longer than any record: a file without line ends must not fill the memory
UNREADABLE_SHARE = 0.1  # a few broken rows are skipped and counted; a tenth of a file is another format
_SHOWN = 120  # characters of a line that cannot be read


@dataclass(frozen=True)
class Block:
    """Whole lines of a file.

    Attributes:
        first_line: number of its first line, from 1.
        text: the lines, each but perhaps the file's last one ended by a newline.
    """

    first_line: int
    text: str


def read_blocks(file: SourceFile, *, latin1: bool = False) -> Iterator[Block]:
    """Return blocks of about ``BLOCK_BYTES`` of a file, gzipped or not.

    Args:
        file: what to read.
        latin1: whether a block that is not UTF-8 is Latin-1 instead of an error (MovieLens before 2015).

    Raises:
        CtrlRecError: for an empty file, a cut off or damaged archive, text that is not UTF-8, a line without end.
    """
    line, rest, empty = 1, b"", True
    with file.open() as stream:
        while True:
            chunk = _read(stream, file, line + rest.count(b"\n"))
            if not chunk:
                break
            end = chunk.rfind(b"\n") + 1
            if not end:
                rest += chunk
                if len(rest) > _MAX_LINE_BYTES:
                    raise CtrlRecError(
                        f"{file}:{line}: a line of more than {_MAX_LINE_BYTES >> 20} MiB; is it a text file?"
                    )
                continue
            whole, rest = rest + chunk[:end], chunk[end:]
            text = _decode(whole, file, line, latin1)
            empty = empty and not text.strip()
            yield Block(line, text)
            line += text.count("\n")
        if rest:
            text = _decode(rest, file, line, latin1)
            empty = empty and not text.strip()
            yield Block(line, text)
    if empty:
        raise CtrlRecError(f"{file}: the file is empty; export it again, or {AGAIN}")


def read_ahead(blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield the same blocks; a thread reads and unpacks the next one while the last one is parsed."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = pool.submit(next, blocks, None)
        while (block := pending.result()) is not None:
            pending = pool.submit(next, blocks, None)
            yield block


def _read(stream: BinaryIO, file: SourceFile, line: int) -> bytes:
    try:
        return stream.read(BLOCK_BYTES)
    except EOFError:
        raise CtrlRecError(f"{file}: the gzip archive ends too early, after line {line}; {AGAIN}") from None
    except (OSError, zlib.error, zipfile.BadZipFile) as error:
        raise CtrlRecError(f"{file}: damaged after line {line} ({error}); {AGAIN}") from None


def _decode(data: bytes, file: SourceFile, line: int, latin1: bool) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if latin1:
            return data.decode("latin-1")
        place = line + data.count(b"\n", 0, error.start)
        raise CtrlRecError(
            f"{file}:{place}: not UTF-8 (byte 0x{data[error.start]:02x}); save the file as UTF-8, say with iconv"
        ) from None
    return text.removeprefix("\ufeff") if line == 1 else text


def refuse_unreadable(file: SourceFile, ledger: Ledger, rows: int) -> None:
    """Stop if too much of a file cannot be read.

    The bound holds for all reasons together. Rows that a rule of the method leaves out do not count.

    Args:
        file: what is read.
        ledger: of this file alone.
        rows: read so far, those of the ledger included.

    Raises:
        CtrlRecError: naming the most frequent reason, its first line and what was expected there.
    """
    faults = ledger.faults()
    bad = sum(faults.values())
    if bad > UNREADABLE_SHARE * rows:
        reason = next(iter(faults))
        line = ledger.first_line(reason)
        shown = _shown(file, line)
        others = [f"{count} {other} (first in line {ledger.first_line(other)})" for other, count in faults.items()]
        raise CtrlRecError(
            f"{file}:{line}: {reason}: expected {ledger.expected(reason)}{f', found {shown!r}' if shown else ''}; "
            f"{faults[reason]} of the first {rows} rows are like this"
            + (f", {bad} cannot be read in all: {', '.join(others)}" if len(faults) > 1 else "")
            + f"; more than {UNREADABLE_SHARE:.0%} are not left out unasked: correct the file, or remove these rows"
        )


def _shown(file: SourceFile, line: int) -> str:
    """Return the beginning of a line of a text file; nothing of a parquet file."""
    if ".parquet" in file.name:
        return ""
    for block in read_blocks(file, latin1=True):
        lines = block.text.split("\n")
        if line < block.first_line + len(lines):
            return lines[line - block.first_line].strip()[:_SHOWN]
    return ""
