"""Finding and opening what a source is made of: plain or gzipped, in a folder or inside a zip archive."""

import fnmatch
import functools
import gzip
import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ctrlrec.errors import CtrlRecError

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class SourceFile:
    """A file on disk, or a member of a zip archive (a wheel is one)."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}!{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """Without its folders."""
        return Path(self.member or self.path).name

    @contextmanager
    def stored(self) -> Iterator[BinaryIO]:
        """Its bytes as stored.

        Raises:
            CtrlRecError: where the archive is broken.
        """
        try:
            if self.member is None:
                with self.path.open("rb") as file:
                    yield file
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as part:
                    yield cast(BinaryIO, part)
        except zipfile.BadZipFile as error:
            raise CtrlRecError(f"{self.path}: not a whole zip archive ({error}); download it again") from None

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Its bytes, unpacked where they start like gzip, whatever the name says."""
        with self.stored() as head:
            packed = head.read(2) == _GZIP
        with self.stored() as file:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file

    def sha256(self) -> str:
        """Of its bytes as stored, in hexadecimal."""
        status = self.path.stat()
        return _sha256(self, status.st_size, status.st_mtime_ns)


@functools.cache
def _sha256(file: SourceFile, size: int, modified: int) -> str:
    """Size and time of change only make a changed file a new question to the cache."""
    digest = hashlib.sha256()
    with file.stored() as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def find(place: Path, names: Sequence[str]) -> SourceFile:
    """The first of ``names`` at a place; each may end in .gz as well.

    Args:
        place: a folder (searched one folder deep too) or a zip archive (searched by the last part of its members).
        names: file names, the preferred first; ``*`` stands for anything.

    Raises:
        CtrlRecError: where the place or every one of the names is missing.
    """
    wanted = [f"{name}{ending}" for name in names for ending in ("", ".gz")]
    if place.is_dir():
        there = sorted(file.name for file in place.iterdir())
        for name in wanted:
            found = [SourceFile(file) for file in sorted(place.glob(name)) or sorted(place.glob(f"*/{name}"))]
            if found:
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
    raise CtrlRecError(f"{place}: no {' or '.join(names)} (plain or .gz) there; it holds {listing}")


def _only(found: list[SourceFile], name: str, place: Path) -> SourceFile:
    if len(found) > 1:
        raise CtrlRecError(
            f"{place}: {len(found)} files are {name} ({found[0].name}, {found[1].name}, ...); keep one of them"
        )
    return found[0]
