"""How a result was made (``provenance.json``, spec section 9)."""

import functools
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.code import Digests
from ctrlrec.runtime.files import write_text
from ctrlrec.runtime.hardware import hardware, peak_memory_bytes
from ctrlrec.runtime.results import RECORD, read_json

_ATTEMPTS = "logs/attempts.json"
_LEFT = ("checkpoints", "answered")  # left by a killed attempt; the next one resumes from it
_CIRCUMSTANCES = ("git_commit", "packages", "hardware")
_PACKAGES = (
    "torch", "transformers", "peft", "trl", "pytorch-lightning", "datasets", "wandb", "hydra-core", "omegaconf",
    "numpy", "polars", "pyarrow", "rapidfuzz", "scipy", "tokenizers",
)  # fmt: skip


def attempts(directory: Path) -> list[dict[str, Any]]:
    """Return the attempts at a result so far, the last one last."""
    return read_json(directory / _ATTEMPTS, [])


def how_made(directory: Path) -> dict[str, Any]:
    """Return what a published number carries of the ``provenance.json`` of a finished result."""
    made = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    kept = (
        "command", "git_commit", "hardware", "packages", "seed", "processes", "wall_seconds", "earlier_attempts",
        "upstream",
    )  # fmt: skip
    earlier = [{key: attempt.get(key) for key in _CIRCUMSTANCES} for attempt in made.get("earlier_attempts") or ()]
    return {key: made.get(key) for key in kept} | {"earlier_attempts": earlier}


def git_commit() -> str | None:
    """Return the commit of this process's code, with ``-dirty`` if it has changes; None outside a checkout.

    It is that of :func:`code_at_start`. Code is read as it is needed, so a tree whose code has moved on since counts as
    changed.
    """
    (commit, code, changed), (_, code_now, changed_now) = code_at_start(), _state()
    return commit and commit + "-dirty" * (changed or changed_now or code != code_now)


@functools.cache
def code_at_start() -> tuple[str | None, str, bool]:
    """Return :func:`_state` as it was when the process first asked."""
    return _state()


def _state() -> tuple[str | None, str, bool]:
    """Return the commit, what it holds of the package and its configuration, and whether the tree has other changes."""
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


def packages() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def circumstances() -> dict[str, Any]:
    """Return what every measured number carries: the commit, the packages and the hardware that it was made with."""
    return {"git_commit": git_commit(), "packages": packages(), "hardware": hardware()}


def check_committed(made: Mapping[str, Any], what: str) -> None:
    """Refuse to publish what no commit holds the code of.

    Args:
        made: how it was made: ``git_commit``, and ``earlier_attempts`` of killed ones that it was resumed from.
        what: was made, for the message.

    Raises:
        CtrlRecError: for a change that was not committed, or code outside a checkout.
    """
    for attempt in (made, *(made.get("earlier_attempts") or ())):
        commit = attempt["git_commit"]
        if not commit or commit.endswith("-dirty"):
            found = f"was made from '{commit}', no clean commit" if commit else "has no commit on record"
            raise CtrlRecError(f"{what} {found}; delete its result and recompute it from a commit")


def resumable(directory: Path) -> bool:
    """Return whether a killed attempt left something to resume from."""
    return any(path for name in _LEFT for path in (directory / name).glob("*"))


def begin_attempt(directory: Path, code: Digests, upstream: Mapping[str, Any], tracked: Mapping[str, Any]) -> None:
    """Add an attempt at a result to ``logs/attempts.json``, after those that it resumes.

    Args:
        directory: where the result is made.
        code: that the result rests on.
        upstream: ``made`` of what it is made from, by stage.
        tracked: what Weights & Biases shows of it (:mod:`ctrlrec.runtime.loggers`).
    """
    earlier = attempts(directory) if resumable(directory) else []
    made_with = circumstances()
    del made_with["hardware"]["threads"]  # the stage sets them
    (directory / _ATTEMPTS).parent.mkdir(exist_ok=True)
    attempt = made_with | {"code": code, "upstream": upstream, "tracked": tracked}
    write_text(directory / _ATTEMPTS, json.dumps([*earlier, attempt], indent=2))


def write(
    directory: Path,
    *,
    command: str,
    config: dict[str, Any],
    seconds: float,
    processes: int,
    upstream: Mapping[str, Any],
    made: str,
) -> None:
    """Write ``provenance.json`` into a stage's directory.

    Commit, packages, hardware and seconds are those of the attempt that finished; ``earlier_attempts`` holds the
    commit, packages, hardware and code of the killed ones that it resumed.

    Args:
        directory: where the result was made.
        command: that made it.
        config: resolved.
        seconds: of the last attempt.
        processes: that shared the work.
        upstream: directory, fingerprint and ``made`` of what it was made from, by stage.
        made: tells the result apart from one of the same settings that other code made.
    """
    *earlier, last = attempts(directory)
    record = {
        "command": command,
        "config": config,
        **circumstances(),
        "seed": config["seed"],
        "processes": processes,
        "wall_seconds": round(seconds, 3),
        "earlier_attempts": [{key: part for key, part in attempt.items() if key != "tracked"} for attempt in earlier],
        "peak_memory_bytes": peak_memory_bytes(),
        "code": last["code"],
        "made": made,
        "upstream": upstream,
    }
    write_text(directory / RECORD, json.dumps(record, indent=2, ensure_ascii=False))
