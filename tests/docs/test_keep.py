"""Tables are put beside their commands by code, with how they were made."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from ctrlrec.config.compose import compose, plain
from ctrlrec.errors import CtrlRecError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "experiments" / "keep.py"))
KEEP = SCRIPT["keep"]


def row(name: str = "full", seed: int = 0, hit_rate: float = 0.2, **changes: Any) -> dict[str, Any]:
    cell = {"value": hit_rate, "low": hit_rate - 0.1, "high": hit_rate + 0.1, "n": 40}
    return {
        "row": name, "seed": seed, "dataset": "films", "confidence": 0.95, "n": 40, "git_commit": "0123abc",
        "hardware": {"cores": 2}, "wall_seconds": 7.0,
        "command": f"python -m ctrlrec -m experiment=table2 variant={name} output=/somewhere/private "
        "general.mmlu=/somewhere/private/mmlu",
        "upstream": {
            "data": {"directory": "/somewhere/private/data", "fingerprint": "f00"},
            "teacher": {"directory": "/somewhere/private/teacher", "fingerprint": f"7ea{seed}"},
        },
        "stages": {"data": {"git_commit": "0123abc"}},
        "config": plain(compose(f"variant={name}", "dataset.path=/somewhere/private/films")),
        "settings": {"sequential": {"HR@10": cell, "CorrectCount": cell}, "general": {"MMLU": cell}},
    } | changes  # fmt: skip


def made(tables: Path, *rows: dict[str, Any]) -> Path:
    """What a run of these rows leaves."""
    (tables / "rows.json").write_text(json.dumps(rows))
    return tables


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "tables" / "films-mini-demo"
    folder.mkdir(parents=True)
    for name in ("table2.md", "table6.html", "comparisons.md", "summary.md"):
        (folder / name).write_text(name)
    for name in ("table2_sequential", "table3_category", "table6_cases", "teacher"):
        (tmp_path / "experiments" / name).mkdir(parents=True)
    return made(folder, row())


def test_each_table_goes_to_its_folder_with_its_provenance(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    kept = KEEP(tables, experiments)
    assert [folder.relative_to(experiments).as_posix() for folder in kept] == [
        "table2_sequential/films-mini-demo",
        "table6_cases/films-mini-demo",
    ]
    rendered = {f"table2{form}" for form in (".md", ".tex", ".html", ".csv")}
    assert {path.name for path in kept[0].iterdir()} == {*rendered, "comparisons-seed0-full.md", "provenance.json"}
    assert "| full | 0.2000" in (kept[0] / "table2.md").read_text()
    (entry,) = json.loads((kept[0] / "provenance.json").read_text())
    assert entry["command"] == "python -m ctrlrec -m experiment=table2 variant=full general.mmlu=path/to/mmlu"
    assert entry["upstream"] == {"data": "f00", "teacher": "7ea0"}
    assert entry["settings"] == {
        "sequential": {"HR@10": {"value": 0.2, "low": 0.1, "high": 0.30000000000000004, "n": 40}}
    }
    assert "private" not in json.dumps(entry) and entry["config"]["dataset"]["path"] == "path/to/films"
    (case,) = json.loads((kept[1] / "provenance.json").read_text())
    assert case["git_commit"] == "0123abc" and not case["settings"]
    printed = (experiments / "table2_sequential" / "published.md").read_text()
    assert "0.1229" in printed and "## Steam" in printed  # SASRec on Movie, Table 2


def test_the_committed_printed_numbers_are_rendered_ones() -> None:
    pages = sorted((ROOT / "experiments").glob("table*/published.md"))
    assert [page.parent.name[:6] for page in pages] == ["table2", "table3", "table4", "table5"]
    for page in pages:
        assert page.read_text(encoding="utf-8") == SCRIPT["published"](int(page.parent.name[5]))


def test_a_table_is_joined_from_rows_made_at_different_times(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    KEEP(made(tables, row("v2"), row("full", hit_rate=0.3)), experiments)
    KEEP(made(tables, row("palr"), row("full", hit_rate=0.4)), experiments)  # full anew
    folder = KEEP(made(tables, row("full", seed=1, hit_rate=0.5)), experiments)[0]
    entries = json.loads((folder / "provenance.json").read_text())
    assert [(entry["row"], entry["seed"]) for entry in entries] == [("palr", 0), ("v2", 0), ("full", 0), ("full", 1)]
    lines = (folder / "table2.md").read_text().splitlines()[4:]
    assert [line.split(" <sub>")[0] for line in lines] == [
        "| palr | <ins>0.2000</ins>", "| v2 | <ins>0.2000</ins>", "| full (2 seeds) | **0.4500**",
    ]  # fmt: skip


def test_comparisons_do_not_outlive_their_rows(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"

    def compared() -> list[str]:
        return sorted(path.name for path in (experiments / "table2_sequential").glob("*/comparisons*"))

    KEEP(made(tables, row("v2"), row("full")), experiments)
    KEEP(made(tables, row("v2", seed=1), row("full", seed=1)), experiments)
    KEEP(made(tables, row("palr"), row("zero_shot")), experiments)
    both = ["comparisons-seed0-palr+zero_shot.md", "comparisons-seed0-v2+full.md"]
    assert compared() == [*both, "comparisons-seed1-v2+full.md"]
    (tables / "comparisons.md").unlink()
    KEEP(made(tables, row("v2", seed=1), row("v1")), experiments)
    assert compared() == both  # only what was made anew goes


def test_rows_of_other_settings_do_not_join(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    KEEP(made(tables, row("v2"), row("palr")), experiments)
    shorter = plain(compose("variant=v2", "sl.max_steps=3"))
    with pytest.raises(CtrlRecError, match=r"rows .*v2, seed 1.* were made with different settings"):
        KEEP(made(tables, row("v2", seed=1, config=shorter)), experiments)
    other_rl = plain(compose("variant=full", "rl.iterations=3", "dataset.path=/elsewhere/films"))
    KEEP(made(tables, row("full", config=other_rl)), experiments)  # v2 has no RL, and folders differ between machines


def test_a_row_with_its_own_backbone_joins(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    t5 = compose("variant=instructrec", "model=flan_t5_xl", "dataset.path=/elsewhere/films")
    other = row("instructrec", config=plain(t5))
    other["upstream"]["data"]["fingerprint"] = "0f75"  # another tokenizer
    KEEP(made(tables, row("full")), experiments)
    folder = KEEP(made(tables, other), experiments)[0]
    assert "instructrec" in (folder / "table2.md").read_text()


def test_a_table_of_the_data_says_how_it_was_made(tables: Path, tmp_path: Path) -> None:
    (tmp_path / "experiments" / "table1_datasets").mkdir()
    for suffix in ("md", "csv"):
        (tables / f"table1.{suffix}").write_text("films")
    stage = {"git_commit": "0123abc", "command": "python -m ctrlrec output=/private", "upstream": {}}
    (tables / "table1.json").write_text(json.dumps(stage))
    folder = KEEP(tables, tmp_path / "experiments")[0]
    assert {path.name for path in folder.iterdir()} == {"table1.md", "table1.csv", "provenance.json"}
    assert json.loads((folder / "provenance.json").read_text()) == [stage | {"command": "python -m ctrlrec"}]


@pytest.mark.parametrize("stage", ["data", "teacher"])
def test_rows_of_other_data_or_another_teacher_do_not_join(tables: Path, tmp_path: Path, stage: str) -> None:
    experiments = tmp_path / "experiments"
    KEEP(tables, experiments)
    folder = experiments / "table2_sequential" / "films-mini-demo"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    other = row("v2")
    other["upstream"][stage]["fingerprint"] = "0ther"
    with pytest.raises(CtrlRecError, match=r"provenance\.json: rows of one table need one data set.*v2, seed 0.*0ther"):
        KEEP(made(tables, other), experiments)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_committed_tables_are_rendered_from_their_rows(tmp_path: Path) -> None:
    kept = sorted((ROOT / "experiments").glob("table[2-5]_*/*/provenance.json"))
    assert len(kept) >= 4
    for path in kept:
        number = int(path.parent.parent.name[5])
        for file in SCRIPT["render"](number, json.loads(path.read_text(encoding="utf-8")), tmp_path):
            assert file.read_bytes() == (path.parent / file.name).read_bytes(), path.parent / file.name


def test_a_row_of_uncommitted_code_is_refused(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match="row full was made from"):
        KEEP(made(tables, row(git_commit="0123abc-dirty")), tmp_path / "experiments")
    with pytest.raises(CtrlRecError, match=r"row full, sl has no commit on record"):
        KEEP(made(tables, row(stages={"sl": {"git_commit": None}})), tmp_path / "experiments")


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match="no tables there"):
        KEEP(tmp_path, tmp_path)
