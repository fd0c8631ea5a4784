"""How a result was made (``provenance.json``)."""

import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.files import sha256_of, write_text
from ctrlrec.runtime.hardware import hardware, peak_memory_bytes

_ATTEMPTS = "logs/attempts.json"


_LEFT = ("checkpoints", "answered")  # what a killed attempt leaves to go on from


_PACKAGES = (
    "torch", "transformers", "peft", "trl", "pytorch-lightning", "datasets", "wandb", "hydra-core", "omegaconf",
    "numpy", "polars", "pyarrow", "rapidfuzz", "scipy", "tokenizers",
)  # fmt: skip


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
    root = Path(__file__).resolve().parents[2]
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
    home = Path(__file__).resolve().parents[1]
    place = home / room
    files = sorted(path for path in place.rglob("*") if path.suffix in (".py", ".yaml")) if place.is_dir() else [place]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(home).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()[:12]


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
