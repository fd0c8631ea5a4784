"""What Weights & Biases is shown of a folder of tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.reporting import track
from ctrlrec.reporting.cases import Case, ShownAnswer, ShownItem
from ctrlrec.reporting.comparisons import Comparison
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
    config = compose("logger=csv", "dataset.split=global_time")
    track_report(config, tmp_path, {"table2": grid}, material)
    assert started["settings"]["dataset"] == f"{config.dataset.name}-global_time"
    assert recorder.tables == {"table2": (["Row", "HR"], [["v2", "0.1"]])} and recorder.closed
    assert sorted(recorder.files) == ["curves/sl-v2", "report.html"] and recorder.files["report.html"] == b"page"
    assert recorder.files["curves/sl-v2"].startswith(b"\x89PNG")
    assert started["tags"][-2:] == ["v2", "full"] and not list(tmp_path.glob("*.png"))


def test_rows_pairs_and_cases_are_shown_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, drawn = Recorder(), {}
    monkeypatch.setattr(tracking, "start", lambda *_, **words: recorder)
    draw = track.draw_whiskers

    def whiskers(panels: Any, png: Path, unit: str, zero: bool = False) -> None:
        drawn[png.stem] = (panels, zero)
        draw(panels, png, unit, zero)

    monkeypatch.setattr(track, "draw_whiskers", whiskers)
    (tmp_path / "report.html").write_text("page")
    cell = {"value": 0.2, "low": 0.1, "high": 0.4, "n": 10, "p": 0.5}
    settings = {"sequential": {"HR@10": cell}, "category_positive": {"TCP@10": cell}}
    pair = Comparison("full", "v2", {0: settings}, settings, 0.95)
    items = (ShownItem("Fargo (1996)", ("target", "inside"), 1.0), ShownItem("Nowhere", ("nonexistent",), -1.0))
    case = Case("7", "category_positive", "prompt", "Fargo (1996)", "Crime", (ShownAnswer("full", items, 0.5),))
    rows = [Row("v2", settings), Row("full", settings)]
    track_report(compose("logger=csv"), tmp_path, {}, Material("grid", [], rows, [pair], cases=[case]))
    wanted = {"whiskers/sequential", "whiskers/category_positive", "differences/full - v2", "report.html"}
    assert recorder.files.keys() == wanted
    (lines,), zero = drawn["whiskers-0"][0].values(), drawn["whiskers-0"][1]
    assert lines == [("v2", (10, 20, 40)), ("full", (10, 20, 40))] and not zero
    assert list(drawn["differences-0"][0]) == ["nothing asked", "more of a category"] and drawn["differences-0"][1]
    columns, told = recorder.tables["cases"]
    assert dict(zip(columns, told[1], strict=True)) == {
        "user": "7", "asked for": "more of a category", "category": "Crime", "row": "full", "place": 2,
        "title": "Nowhere", "marks": "nonexistent", "item reward": -1.0,
    }  # fmt: skip


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
