"""Finished tiny runs for all tests of this folder; they copy them before they change them."""

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_films
import tiny_run

from ctrlrec import Recommender


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


@dataclass(frozen=True)
class Films:
    """A finished ``variant=full`` on a small film data set."""

    data: Path
    output: Path
    row: Path
    predictions: list[dict]

    def records(self, file: str) -> list[dict]:
        return tiny_run.read_lines(tiny_run.only(self.output / "data") / file)


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    folder = tmp_path_factory.mktemp("films")
    tiny_films.write_films(folder / "data")
    tiny_run.run(["variant=full", *tiny_films.settings(folder / "data", folder / "runs")], folder / "log")
    row = tiny_run.only(folder / "runs" / "evaluate")
    return Films(folder / "data", folder / "runs", row, tiny_run.read_lines(row / "predictions.jsonl"))


@pytest.fixture(scope="session")
def recommender(films: Films) -> Recommender:
    return Recommender.load(films.row)


@pytest.fixture(scope="session")
def address(recommender: Recommender) -> Iterator[str]:
    """Where a page over the film row, twice side by side, is served."""
    pytest.importorskip("gradio")
    from ctrlrec.app import playground

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        page = playground.build([recommender, recommender])
        with socket.socket() as found:  # one that no other worker serves at
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        yield playground.launch(page, "127.0.0.1", port, wait=False)
        page.close()
