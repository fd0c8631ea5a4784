"""One finished tiny sweep for all tests of this folder; they copy it before they change it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_run


@dataclass(frozen=True)
class Sweep:
    """A finished ``python -m ctrlrec -m variant=v2,full``."""

    records: Path
    output: Path
    printed: str

    def arguments(self, output: Path, **changed: object) -> list[str]:
        return tiny_run.settings(self.records, output, **changed)

    def result(self, stage: str, pattern: str = "*") -> Path:
        return tiny_run.only(self.output / stage, f"{pattern}-????????????")


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "records"
    tiny_run.write_records(folder)
    return folder


@pytest.fixture(scope="session")
def sweep(records: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep")
    arguments = ["-m", "variant=v2,full", *tiny_run.settings(records, folder / "runs")]
    return Sweep(records, folder / "runs", tiny_run.run(arguments, folder / "log"))


@pytest.fixture
def copy_of(sweep: Sweep, tmp_path: Path) -> Callable[..., Path]:
    """Copies finished stages of the sweep into an output folder of one's own."""

    def copy(*stages: str) -> Path:
        for stage in stages:
            shutil.copytree(sweep.output / stage, tmp_path / "runs" / stage)
        return tmp_path / "runs"

    return copy
