"""How a result was made (``provenance.json``), and files that are whole or not there."""

import json
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "torch", "transformers", "peft", "trl", "pytorch-lightning", "datasets", "wandb", "hydra-core", "omegaconf",
    "numpy", "polars", "pyarrow", "rapidfuzz", "scipy", "tokenizers",
)  # fmt: skip


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file so that a reader finds the old one or the new one, never half of either."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_jsonl(path: Path, rows: Any) -> None:
    """Write dictionaries as JSON Lines, one object a line, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file that this package wrote."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def git_commit() -> str | None:
    """The commit of the source tree, with ``-dirty`` where it has changes; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if changed else "")


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


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write(
    directory: Path, *, command: str, config: dict[str, Any], seconds: float, resumed: bool, upstream: Any
) -> None:
    """Write ``provenance.json`` (spec section 9) into a stage's directory."""
    record = {
        "command": command,
        "config": config,
        "git_commit": git_commit(),
        "packages": packages(),
        "hardware": hardware(),
        "seed": config["seed"],
        "wall_seconds": round(seconds, 3),
        "resumed": resumed,
        "peak_memory_bytes": peak_memory_bytes(),
        "upstream": upstream,
    }
    write_text(directory / "provenance.json", json.dumps(record, indent=2, ensure_ascii=False))
