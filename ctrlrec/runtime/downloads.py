"""Published files by address: checked, resumed if a connection broke, with progress; pooch does the rest.

Both libraries are imported where they are used: a run that downloads nothing starts half a second sooner.
"""

import logging
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ctrlrec.errors import CtrlRecError

_CHUNK_BYTES = 1 << 16  # what a broken connection loses at most
_TIMEOUT_SECONDS = 60
_ATTEMPTS = 3


def fetch(url: str, known_hash: str | None, cache: Path) -> Path:
    """Return the cached file of an address.

    Args:
        url: its last part is the file's name.
        known_hash: ``algorithm:hexdigest``; None if the publisher gives none.
        cache: folder to keep it in, under ``downloads``.

    Raises:
        CtrlRecError: if it cannot be fetched or is not the file it should be.
    """
    import pooch
    import requests

    folder = cache / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    name = url.rpartition("/")[2]
    pooch.get_logger().setLevel(logging.WARNING)
    with FileLock(folder / f"{name}.lock"):
        try:
            return Path(pooch.retrieve(url, known_hash, fname=name, path=folder, downloader=_resume))
        except (requests.RequestException, OSError) as error:
            raise CtrlRecError(
                f"{url} could not be downloaded ({error}); run again to continue with it, or fetch it by hand and set "
                "dataset.path to its folder"
            ) from None
        except ValueError as error:  # pooch's word for a wrong checksum
            _partial(folder, name).unlink(missing_ok=True)
            raise CtrlRecError(f"{url}: not the file it should be ({error}); run again") from None


def _partial(folder: Path, name: str) -> Path:
    return folder / f"{name}.part"


def _resume(url: str, output_file: str, _: Any) -> None:
    """Download to ``NAME.part`` beside pooch's temporary file, continuing from what is there, then take its place."""
    import requests

    target = Path(output_file)
    partial = _partial(target.parent, url.rpartition("/")[2])
    for attempt in range(_ATTEMPTS):
        try:
            _transfer(url, partial)
            break
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            if attempt == _ATTEMPTS - 1:
                raise
    partial.replace(target)


def _transfer(url: str, partial: Path) -> None:
    import requests
    import urllib3

    start = partial.stat().st_size if partial.exists() else 0
    asked = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    with requests.get(url, headers=asked, stream=True, timeout=_TIMEOUT_SECONDS) as reply:
        if reply.status_code == requests.codes.requested_range_not_satisfiable and start:
            if reply.headers.get("Content-Range") == f"bytes */{start}":
                return  # nothing is missing: the connection broke after the last byte
            partial.unlink()
            raise requests.ConnectionError(f"what is there, {start} bytes, is not part of the file")
        reply.raise_for_status()
        resumed = reply.status_code == requests.codes.partial_content
        start = start if resumed else 0
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length else None
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with partial.open("ab" if resumed else "wb") as file, Progress(*columns, transient=True) as progress:
            task = progress.add_task(url.rpartition("/")[2], total=total, completed=start)
            try:
                # As stored: a server may call a .gz file an encoding, and bytes unpacked on the way cannot be counted.
                for chunk in reply.raw.stream(_CHUNK_BYTES, decode_content=False):
                    file.write(chunk)
                    progress.advance(task, len(chunk))
            except urllib3.exceptions.HTTPError as error:
                raise requests.ConnectionError(str(error)) from None
    if total is not None and partial.stat().st_size < total:
        raise requests.ConnectionError(f"the connection ended after {partial.stat().st_size} of {total} bytes")
