"""What Weights & Biases is shown of a folder of tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.reporting.page.material import Material
from ctrlrec.reporting.render import Cell, Grid
from ctrlrec.reporting.rows import Row
from ctrlrec.reporting.track import track_report
from ctrlrec.runtime import tracking


class Recorder:
    """Keeps what a run is shown, and the bytes of its files while they are there."""

    def __init__(self) -> None:
        self.tables: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self.closed = False

    def show(self, tables: Any, images: Any, page: Path) -> None:
        self.tables = dict(tables)
        self.files = {name: path.read_bytes() for name, path in {**images, page.name: page}.items()}

    def close(self, success: bool) -> None:
        self.closed = success


def test_tables_first_curves_and_the_page_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, started = Recorder(), {}
    monkeypatch.setattr(tracking, "start", lambda *_, **words: started.update(words) or recorder)
    (tmp_path / "report.html").write_text("page")
    curves = {
        "teacher": {("sasrec", 0): {"train/loss": {0: 2.0}}},
        "sl": {("v2", 1): {"train/loss": {0: 3.0}}, ("v2", 0): {"train/loss": {0: 2.0, 1: 1.0}}},
        "rl": {("full", 0): {"other": {0: 1.0}}},
    }
    material = Material("grid", [], [Row("v2", {}), Row("full", {})], curves=curves)
    grid = Grid("", ("Row",), (), ("HR",), ((("v2",), (Cell("0.1"),)),))
    track_report(compose("logger=csv"), tmp_path, {"table2": grid}, material)
    assert recorder.tables == {"table2": (["Row", "HR"], [["v2", "0.1"]])} and recorder.closed
    assert sorted(recorder.files) == ["curves-sl-v2", "report.html"] and recorder.files["report.html"] == b"page"
    assert recorder.files["curves-sl-v2"].startswith(b"\x89PNG")
    assert started["tags"][-2:] == ["v2", "full"] and not list(tmp_path.glob("*.png"))


def test_a_page_becomes_part_of_an_offline_run(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb")
    (tmp_path / "report.html").write_text("<p>a page</p>")
    run = wandb.init(mode="offline", dir=str(tmp_path), project="ctrlrec")
    tracker = tracking.Tracker(run)
    tracker.show({"table2": (["Row"], [["v2"]])}, {}, tmp_path / "report.html")
    tracker.close(success=True)
    (page,) = tmp_path.rglob("files/media/html/report_*.html")
    assert page.read_text() == "<p>a page</p>"
    (table,) = tmp_path.rglob("files/media/table/table2_*.table.json")
    assert json.loads(table.read_text())["data"] == [["v2"]]
