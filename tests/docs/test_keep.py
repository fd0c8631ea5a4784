"""What is kept of earlier runs: pages are rendered from their rows, and the index names every folder."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from ctrlrec.reporting.kept import published_page, render

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
GRIDS = sorted({path.parent for path in EXPERIMENTS.glob("movielens_*/*.json")})


def test_the_committed_printed_numbers_are_rendered_ones() -> None:
    page = (EXPERIMENTS / "published.md").read_text(encoding="utf-8")
    assert page == published_page() and "0.1229" in page and "## Table 5, Steam" in page  # SASRec on Movie, Table 2


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.name)
def test_committed_pages_are_rendered_from_their_rows(grid: Path, tmp_path: Path) -> None:
    folder = tmp_path / grid.name  # pages name it
    folder.mkdir()
    for pattern in ("rows.json", "comparisons.json", "table[17].csv", "curves-*.parquet"):
        for path in grid.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    pages = render(folder)
    assert pages
    for page in pages:
        assert page.read_bytes() == (grid / page.name).read_bytes(), page.name


def test_no_page_is_kept_twice() -> None:
    pages = [path for path in EXPERIMENTS.rglob("*") if path.is_file() and path.stat().st_size]
    assert len({path.read_bytes() for path in pages}) == len(pages)


def test_the_index_names_every_folder_and_page() -> None:
    index = (EXPERIMENTS / "README.md").read_text(encoding="utf-8").split("##")[0]
    named = re.findall(r"^\| `([^`]+?)/?` \|", index, re.MULTILINE)
    there = {path.name for path in EXPERIMENTS.iterdir() if path.name[0] not in "._"}
    assert set(named) == there - {"README.md", "keep.py"}


def test_kept_numbers_of_an_earlier_definition_say_so() -> None:
    """Missing items count since: a number of which that is not known to change nothing has a footnote."""
    rows = json.loads((EXPERIMENTS / "movielens_100k-llama_mini-small" / "rows.json").read_text(encoding="utf-8"))
    for row in rows:
        for setting, metric in (("category_negative", "TCP@10"), ("at_most_20", "CPA")):
            cells = row["settings"].get(setting, {})
            if f"{metric}_literal" in cells:
                continue  # measured since
            if row["row"] in ("palr", "instructrec"):
                assert "is not known" in cells[metric]["note"]
            elif row["row"] == "v1":
                assert "2 of 300 answers" in cells[metric]["note"]


def test_the_command_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["keep.py", str(tmp_path), str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(EXPERIMENTS / "keep.py"), run_name="__main__")
    assert stopped.value.code == 1 and "no tables there" in capsys.readouterr().err
