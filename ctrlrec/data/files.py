"""Finding and opening what a source is made of: plain or gzipped, in a folder or inside a zip archive."""

import fnmatch
import functools
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ctrlrec.errors import CtrlRecError

AGAIN = "delete it and download it again, or run again if a run downloaded it"
_GZIP = b"\x1f\x8b"
_UNPACKED_BYTES = 256 << 20  # an archive may unpack to this size whatever its own, ...
_UNPACKED_TIMES = 200  # ... and to this many times its size: text packs to a tenth, a bomb to a thousandth


def _most_unpacked(packed: int) -> int:
    return max(_UNPACKED_BYTES, _UNPACKED_TIMES * packed)


class BoundedGzip(gzip.GzipFile):
    """A gzip stream that refuses to unpack without end.

    Args:
        stream: the packed bytes.
        name: for the message.
        packed: their number.
    """

    def __init__(self, stream: BinaryIO, name: str, packed: int):
        super().__init__(fileobj=stream)
        self._shown, self._most = name, _most_unpacked(packed)

    def read(self, size: int | None = -1) -> bytes:
        """Copy like the base class, within a limit.

        Raises:
            CtrlRecError: if more comes out than any file of text packs into so little.
        """
        data = super().read(self._most + 1 if size is None or size < 0 else size)
        if self.tell() > self._most:
            raise CtrlRecError(
                f"{self._shown}: unpacks to more than {self._most >> 20} MiB, {_UNPACKED_TIMES} times its size or "
                "more; no file of interactions does, check where it comes from"
            )
        return data


@dataclass(frozen=True)
class SourceFile:
    """A file on disk, or a member of a zip archive (a wheel is one)."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}!{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """The name without its folders."""
        return Path(self.member or self.path).name

    @contextmanager
    def stored(self) -> Iterator[BinaryIO]:
        """Return its bytes as stored.

        Raises:
            CtrlRecError: if it cannot be opened, or the archive is broken, locked or a bomb.
        """
        with ExitStack() as stack:
            try:
                if self.member is None:
                    stream: BinaryIO = stack.enter_context(self.path.open("rb"))
                else:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    part = archive.getinfo(self.member)
                    if part.file_size > _most_unpacked(part.compress_size):
                        raise CtrlRecError(f"{self}: claims to unpack to {part.file_size >> 20} MiB; it is not text")
                    stream = cast(BinaryIO, stack.enter_context(archive.open(part)))
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:  # the last: it has a password
                raise CtrlRecError(f"{self.path}: not a whole plain zip archive ({error}); {AGAIN}") from None
            except OSError as error:
                raise CtrlRecError(f"{self}: cannot be read ({error.strerror or error})") from None
            yield stream

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Return its bytes, unpacked if they start like gzip, whatever the name says."""
        with self.stored() as head:
            packed = read_bytes(head, self, 2) == _GZIP
        with self.stored() as file:
            yield cast(BinaryIO, BoundedGzip(file, str(self), self._size())) if packed else file

    def _size(self) -> int:
        if self.member is None:
            return self.path.stat().st_size
        with zipfile.ZipFile(self.path) as archive:
            return archive.getinfo(self.member).file_size

    def sha256(self) -> str:
        """Return the digest of its bytes as stored, in hexadecimal."""
        try:
            status = self.path.stat()
        except OSError as error:
            raise CtrlRecError(f"{self.path}: cannot be read ({error.strerror})") from None
        return _sha256(self, status.st_size, status.st_mtime_ns)


@functools.cache
def _sha256(file: SourceFile, size: int, modified: int) -> str:
    """Return the digest of a file; size and time of change are part of the cache's key."""
    digest = hashlib.sha256()
    with file.stored() as stream:
        while chunk := read_bytes(stream, file, 1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_bytes(stream: BinaryIO, file: SourceFile, size: int) -> bytes:
    """Return the next bytes of an opened file.

    Raises:
        CtrlRecError: if it is damaged.
    """
    try:
        return stream.read(size)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise CtrlRecError(f"{file}: damaged ({error}); {AGAIN}") from None


def find(place: Path, names: Sequence[str]) -> SourceFile:
    """Find the first of ``names`` at a place; each may end in .gz as well.

    Args:
        place: a folder (searched one folder deep too) or a zip archive (searched by the last part of its members).
        names: file names, the preferred first; ``*`` stands for anything.

    Raises:
        CtrlRecError: if the place or every one of the names is missing.
    """
    try:
        return _find(place, names)
    except (OSError, zipfile.BadZipFile) as error:
        raise CtrlRecError(f"{place}: cannot be read ({error})") from None


def _find(place: Path, names: Sequence[str]) -> SourceFile:
    wanted = [f"{name}{ending}" for name in names for ending in ("", ".gz")]
    if place.is_dir():
        there = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in place.iterdir())
        for name in wanted:
            for pattern in (name, f"*/{name}"):
                if found := [SourceFile(file) for file in sorted(place.glob(pattern)) if not file.is_dir()]:
                    return _only(found, name, place)
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            there = sorted(archive.namelist())
        for name in wanted:
            found = [SourceFile(place, member) for member in there if fnmatch.fnmatchcase(Path(member).name, name)]
            if found:
                return _only(found, name, place)
    elif place.exists():
        raise CtrlRecError(f"{place}: expected a folder or a whole zip archive with {' or '.join(names)}")
    else:
        raise CtrlRecError(f"{place}: no such file or folder; dataset.path must name where {' or '.join(names)} lies")
    listing = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") if there else "nothing"
    raise CtrlRecError(
        f"{place}: no {' or '.join(names)} (plain or .gz) there; it holds {listing}. Is it "
        "another release, or another publisher's? dataset=records reads interactions.csv and items.csv of any data"
    )


def _only(found: list[SourceFile], name: str, place: Path) -> SourceFile:
    if len(found) > 1:
        raise CtrlRecError(
            f"{place}: {len(found)} files are {name} ({found[0].name}, {found[1].name}, ...); keep one of them"
        )
    return found[0]
