"""Files that are whole or not there, and digests by which they are recognised."""

import functools
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ctrlrec.errors import CtrlRecError

log = logging.getLogger(__name__)

_RECORD = "files.json"
_UNRECORDED = ("checkpoints", "logs", "wandb", _RECORD)  # may change after a result is finished, or go
_SAMPLED = 2**20  # bytes of a large file that its digest covers at either end
# Characters besides "\n" and "\r" that some readers take for the end of a line, escaped as JSON allows.
_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes its place only after it is written: a reader finds the old one or the new one."""
    temporary, file, locked = _temporary(path)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if locked:  # before another writer can take it over
                temporary.replace(path)
        if not locked:  # Windows renames no open file
            temporary.replace(path)
    except BaseException:  # also of a full disk, which half a file would keep full
        temporary.unlink(missing_ok=True)
        raise


def _temporary(path: Path) -> tuple[Path, BinaryIO, bool]:
    """Return an empty file beside the path that no other process or thread writes, and whether it is locked.

    Its name is the same for every writer, so that the next takes over what a killed one left. Writers at the same time
    take names of their own, and so does every writer on Windows, which has no ``flock``.
    """
    with suppress(ImportError):
        import fcntl

        temporary = path.with_name(f"{path.name}.tmp")
        file = temporary.open("ab")
        with suppress(OSError):  # locked, or moved to its place since it was opened
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), temporary.stat()):
                file.truncate(0)
                return temporary, file, True
        file.close()
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    return temporary, temporary.open("xb"), False


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file, whole or not at all."""
    with _whole(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, whole or not at all."""
    write_bytes(path, text.encode())


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write dictionaries as JSON Lines, one object a line, whole or not at all."""
    with _whole(path) as file:
        for row in rows:
            file.write(json_line(row).encode())


def json_line(row: Mapping[str, Any]) -> str:
    """Return a line of JSON Lines; what other readers may take for the end of a line is escaped."""
    return json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS) + "\n"


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file that this package wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def sha256_of(path: Path, whole: bool = True) -> str:
    """Return the sha256 of a file, or of its first and its last megabyte."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns, status.st_ino, whole)


@functools.cache
def _digest(path: Path, size: int, modified: int, inode: int, whole: bool) -> str:
    """Return the sha256 of a file; within one process a file is read again only if it looks changed."""
    with path.open("rb") as file:
        if whole:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(file.read(_SAMPLED))
        file.seek(max(_SAMPLED, size - _SAMPLED))
        digest.update(file.read(_SAMPLED))
        return digest.hexdigest()


def folder_digest(folder: Path, but: Sequence[str] = ()) -> str:
    """Return what tells apart two states of a folder of files; large ones count by their first and last megabyte.

    Args:
        folder: subfolders are left out.
        but: endings of names to leave out.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.endswith(tuple(but)))
    parts = [f"{path.name} {path.stat().st_size} {sha256_of(path, whole=False)}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def record_files(directory: Path) -> None:
    """Write ``files.json``: size and sha256 of every file of a result, which :func:`check_files` compares.

    Logs are left out: Weights & Biases writes there after the result is finished.
    """
    files = {
        path.relative_to(directory).as_posix(): {"size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.relative_to(directory).parts[0] not in _UNRECORDED
    }
    write_text(directory / _RECORD, json.dumps(files, indent=2, ensure_ascii=False))


def check_files(directory: Path, advice: str | None = None) -> None:
    """Refuse a finished result that is not what its stage left: a file missing, cut off or altered.

    Args:
        directory: of the result.
        advice: what to do about it; None for a result that can be made again.

    Raises:
        CtrlRecError: naming the first such file.
    """
    advice = f"; {advice or f'delete {directory} and run again to recompute it'}"
    record = directory / _RECORD
    if not record.exists():
        log.warning("%s: no %s, so its files are taken as they are; it is of an earlier version", directory, _RECORD)
        return
    try:
        files = json.loads(record.read_text(encoding="utf-8"))
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CtrlRecError(f"{record}: not a list of files with size and sha256{advice}") from None
    for name, (size, digest) in expected.items():
        path = directory / name
        if not path.is_file():
            raise CtrlRecError(f"{path}: missing{advice}")
        if path.stat().st_size != size:
            raise CtrlRecError(f"{path}: {path.stat().st_size} bytes instead of {size}{advice}")
        if sha256_of(path) != digest:
            raise CtrlRecError(f"{path}: altered since it was made, its sha256 is another{advice}")
