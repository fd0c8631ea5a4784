"""How a result was made (``provenance.json``), and files that are whole or not there."""

import fcntl
import functools
import hashlib
import json
import logging
import os
import platform
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

from ctrlrec.errors import CtrlRecError

log = logging.getLogger(__name__)

_FILES = "files.json"
_ATTEMPTS = "logs/attempts.json"
_LINE_ENDS = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})
_SAMPLED = 2**20  # bytes
_LEFT = ("checkpoints", "answered")  # what a killed attempt leaves to go on from
_UNRECORDED = ("checkpoints", "logs", "wandb")
_PACKAGES = (
    "torch", "transformers", "peft", "trl", "pytorch-lightning", "datasets", "wandb", "hydra-core", "omegaconf",
    "numpy", "polars", "pyarrow", "rapidfuzz", "scipy", "tokenizers",
)  # fmt: skip


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place only once it is written: a reader finds the old one or the new one, never half."""
    temporary, file = _own(path)
    with file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:  # also of a full disk, which the half would keep full
            temporary.unlink(missing_ok=True)
            raise


def _own(path: Path) -> tuple[Path, BinaryIO]:
    """An empty file beside the path that no other process or thread writes.

    Its name is the same for every writer, so that the next takes over what a killed one left; only while one is at work
    do others take names of their own.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    file = temporary.open("ab")
    with suppress(OSError):  # locked, or gone to its place since it was opened
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), temporary.stat()):
            file.truncate(0)
            return temporary, file
    file.close()
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    return temporary, temporary.open("xb")


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
    """A line of JSON Lines; what other readers may take for the end of a line is escaped."""
    return json.dumps(row, ensure_ascii=False).translate(_LINE_ENDS) + "\n"


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file that this package wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def how_made(directory: Path) -> dict[str, Any]:
    """What a published number carries of the ``provenance.json`` of a finished result."""
    made = json.loads((directory / "provenance.json").read_text(encoding="utf-8"))
    kept = (
        "command", "git_commit", "hardware", "packages", "seed", "processes", "wall_seconds", "earlier_attempts",
        "upstream",
    )  # fmt: skip
    return {key: made.get(key) for key in kept}


def made_from(directory: Path, upstream: Mapping[str, Any]) -> dict[str, Path]:
    """The directories by stage that a finished result was made from.

    They lie beside it in its output folder, which may have been moved, or be seen from elsewhere, since it was made.

    Args:
        directory: of the result.
        upstream: what its ``provenance.json`` says under this name.
    """
    output = directory.absolute().parents[1]
    return {stage: output / stage / Path(found["directory"]).name for stage, found in upstream.items()}


def finished(stage: Path, file: str) -> list[Path]:
    """Results of a stage that hold a file, by name; those still in the making are left out."""
    return [path.parent for path in sorted(stage.glob(f"*/{file}")) if path.parent.suffix != ".partial"]


def record_files(directory: Path) -> None:
    """Write ``files.json``: size and sha256 of every file of a result, by which :func:`check_files` knows it again.

    Logs are left out: Weights & Biases goes on writing there when it sends an offline run.
    """
    files = {
        path.relative_to(directory).as_posix(): {"size": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.relative_to(directory).parts[0] not in (*_UNRECORDED, _FILES)
    }
    write_text(directory / _FILES, json.dumps(files, indent=2, ensure_ascii=False))


def check_files(directory: Path) -> None:
    """Make sure that a finished result is what its stage left: no file missing, cut off or altered.

    Raises:
        CtrlRecError: naming the first file that is not.
    """
    advice = f"; delete {directory} and run again to make it anew"
    record = directory / _FILES
    if not record.exists():
        log.warning("%s: no %s, so its files are taken as they are; it is of an earlier version", directory, _FILES)
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
        if _sha256(path) != digest:
            raise CtrlRecError(f"{path}: altered since it was made, its sha256 is another{advice}")


def _sha256(path: Path, whole: bool = True) -> str:
    """Of a file, or of its first and its last megabyte."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns, status.st_ino, whole)


@functools.cache
def _digest(path: Path, size: int, modified: int, inode: int, whole: bool) -> str:
    """The rows of a sweep share results: within one process a file is read again only where it looks changed."""
    with path.open("rb") as file:
        if whole:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(file.read(_SAMPLED))
        file.seek(max(_SAMPLED, size - _SAMPLED))
        digest.update(file.read(_SAMPLED))
        return digest.hexdigest()


def folder_digest(folder: Path, but: Sequence[str] = ()) -> str:
    """What tells apart two states of a folder of files; of large ones the first and the last megabyte.

    Args:
        folder: subfolders are left out.
        but: endings of names to leave out.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.endswith(tuple(but)))
    parts = [f"{path.name} {path.stat().st_size} {_sha256(path, whole=False)}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def git_commit() -> str | None:
    """The commit of this process's code, with ``-dirty`` where it has changes; None outside a checkout.

    It is that of :func:`code_at_start`. Code is read as it is needed, so a tree whose code has moved on since counts as
    changed.
    """
    (commit, code, changed), (_, code_now, changed_now) = code_at_start(), _state()
    return commit and commit + "-dirty" * (changed or changed_now or code != code_now)


@functools.cache
def code_at_start() -> tuple[str | None, str, bool]:
    """See :func:`_state`: as the process found it when it first asked."""
    return _state()


def _state() -> tuple[str | None, str, bool]:
    """The commit, what it holds of the package and its configuration, and whether the tree has other changes."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None, "", False

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit, *code = git("rev-parse", "HEAD", "HEAD:ctrlrec", "HEAD:conf").split()
        changed = git("status", "--porcelain", "--untracked-files=no")
        added = git("ls-files", "--others", "--exclude-standard", "ctrlrec", "conf")
        return commit, " ".join(code), bool(changed or added)
    except (OSError, subprocess.CalledProcessError):
        return None, "", False


@functools.cache
def code_digest(room: str) -> str:
    """What tells apart two states of a room of the package (a folder with its subfolders, or a module)."""
    home = Path(__file__).resolve().parent
    place = home / room
    files = sorted(path for path in place.rglob("*") if path.suffix in (".py", ".yaml")) if place.is_dir() else [place]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(home).as_posix()} {_sha256(path)}\n".encode())
    return digest.hexdigest()[:12]


def hardware() -> dict[str, Any]:
    """Processor count, architecture and accelerators; no host name."""
    import torch

    accelerators = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": accelerators,
        "native_bfloat16": native_bfloat16(),
    }


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices natively."""
    import torch

    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def packages() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def circumstances() -> dict[str, Any]:
    """What every measured number carries: the commit, the packages and the hardware that it was made with."""
    return {"git_commit": git_commit(), "packages": packages(), "hardware": hardware()}


def check_committed(made: Mapping[str, Any], what: str) -> None:
    """Refuse to publish what no commit holds the code of.

    Args:
        made: how it was made: ``git_commit``, and ``earlier_attempts`` where a killed one was gone on from.
        what: was made, for the message.

    Raises:
        CtrlRecError: for a change that was not committed, or code outside a checkout.
    """
    for attempt in (made, *(made.get("earlier_attempts") or ())):
        commit = attempt["git_commit"]
        if not commit or commit.endswith("-dirty"):
            found = f"was made from '{commit}', no clean commit" if commit else "has no commit on record"
            raise CtrlRecError(f"{what} {found}; delete its result and make it anew from a commit")


def begin_attempt(directory: Path) -> None:
    """Note the circumstances of an attempt at a result in ``logs/attempts.json``, behind those that it goes on from."""
    record = directory / _ATTEMPTS
    left = any(path for name in _LEFT for path in (directory / name).glob("*"))
    attempts = json.loads(record.read_text(encoding="utf-8")) if left and record.exists() else []
    made_with = circumstances()
    del made_with["hardware"]["threads"]  # the stage sets them
    record.parent.mkdir(exist_ok=True)
    write_text(record, json.dumps([*attempts, made_with], indent=2))


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write(
    directory: Path,
    *,
    command: str,
    config: dict[str, Any],
    seconds: float,
    processes: int,
    upstream: Any,
    code: Mapping[str, str],
) -> None:
    """Write ``provenance.json`` (spec section 9) into a stage's directory.

    Commit, packages, hardware and seconds are those of the attempt that finished; ``earlier_attempts`` holds the
    commit, packages and hardware of the killed ones that it went on from. ``code`` holds :func:`code_digest` of the
    rooms that decide the result.
    """
    earlier = json.loads((directory / _ATTEMPTS).read_text(encoding="utf-8"))[:-1]
    record = {
        "command": command,
        "config": config,
        **circumstances(),
        "seed": config["seed"],
        "processes": processes,
        "wall_seconds": round(seconds, 3),
        "earlier_attempts": earlier,
        "peak_memory_bytes": peak_memory_bytes(),
        "code": code,
        "upstream": upstream,
    }
    write_text(directory / "provenance.json", json.dumps(record, indent=2, ensure_ascii=False))
