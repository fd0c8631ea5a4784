"""Tables are put beside their commands by code, with how they were made."""

import json
import runpy
from pathlib import Path

import pytest

from ctrlrec.errors import CtrlRecError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "experiments" / "keep.py"))
KEEP = SCRIPT["keep"]


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "tables" / "films-mini-demo"
    folder.mkdir(parents=True)
    for name in ("table2.md", "table2.csv", "table6.html", "comparisons.md", "summary.md"):
        (folder / name).write_text(name)
    row = {
        "row": "full", "n": 40, "seed": 0, "git_commit": "0123abc", "hardware": {"cores": 2}, "wall_seconds": 7.0,
        "command": "python -m ctrlrec -m experiment=table2 output=/somewhere/private",
        "upstream": {"data": {"directory": "/somewhere/private/data", "fingerprint": "f00"}},
    }  # fmt: skip
    (folder / "rows.json").write_text(json.dumps([row]))
    for name in ("table2_sequential", "table3_category", "table6_cases", "teacher"):
        (tmp_path / "experiments" / name).mkdir(parents=True)
    return folder


def test_each_table_goes_to_its_folder_with_its_provenance(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    kept = KEEP(tables, experiments)
    assert [folder.relative_to(experiments).as_posix() for folder in kept] == [
        "table2_sequential/films-mini-demo",
        "table6_cases/films-mini-demo",
    ]
    assert {path.name for path in kept[0].iterdir()} == {"table2.md", "table2.csv", "comparisons.md", "provenance.json"}
    (made,) = json.loads((kept[0] / "provenance.json").read_text())
    assert made["command"] == "python -m ctrlrec -m experiment=table2" and made["upstream"] == {"data": "f00"}
    assert "private" not in json.dumps(made)
    printed = (experiments / "table2_sequential" / "published.md").read_text()
    assert "0.1229" in printed and "## Steam" in printed  # SASRec on Movie, Table 2


def test_the_committed_printed_numbers_are_rendered_ones() -> None:
    pages = sorted((ROOT / "experiments").glob("table*/published.md"))
    assert [page.parent.name[:6] for page in pages] == ["table2", "table3", "table4", "table5"]
    for page in pages:
        assert page.read_text(encoding="utf-8") == SCRIPT["published"](int(page.parent.name[5]))


def test_a_row_of_uncommitted_code_is_refused(tables: Path, tmp_path: Path) -> None:
    path = tables / "rows.json"
    path.write_text(path.read_text().replace("0123abc", "0123abc-dirty"))
    with pytest.raises(CtrlRecError, match="row full was made from"):
        KEEP(tables, tmp_path / "experiments")


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match="no tables there"):
        KEEP(tmp_path, tmp_path)
