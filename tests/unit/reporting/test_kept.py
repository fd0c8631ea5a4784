"""Rows, comparisons and curves of different runs join in one folder, or are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ctrlrec.config.compose import compose, plain
from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting.kept import keep

NAME = "films-mini-demo"


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
    """What a run of these rows leaves: all pairs of one seed are compared."""
    (tables / "rows.json").write_text(json.dumps(rows))
    pairs = [(a, b) for a in rows for b in rows if a["seed"] == b["seed"] and a is not b and a["row"] > b["row"]]
    cell = {"value": 0.02, "low": -0.01, "high": 0.05, "n": 40}
    entries = [
        {"better": a["row"], "worse": b["row"], "seed": a["seed"], "confidence": 0.95,
         "settings": {"sequential": {"HR@10": cell}}}
        for a, b in pairs
    ]  # fmt: skip
    (tables / "comparisons.json").write_text(json.dumps(entries))
    return tables


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "tables" / NAME
    folder.mkdir(parents=True)
    for name in ("table2.md", "report.html", "comparisons.md", "summary.md"):
        (folder / name).write_text(name)
    (tmp_path / "experiments").mkdir()
    return made(folder, row())


def test_a_grid_is_one_folder_with_its_provenance(tables: Path, tmp_path: Path) -> None:
    folder = keep(tables, tmp_path / "experiments")
    assert folder == tmp_path / "experiments" / NAME
    rendered = {f"table{number}{form}" for number in (2, 5) for form in (".md", ".tex", ".csv")}
    assert {path.name for path in folder.iterdir()} == {*rendered, "summary.md", "rows.json", "report.html"}
    assert "| full | 0.2000" in (folder / "table2.md").read_text()
    (entry,) = json.loads((folder / "rows.json").read_text())
    assert entry["command"] == "python -m ctrlrec -m experiment=table2 variant=full general.mmlu=path/to/mmlu"
    assert entry["upstream"] == {"data": "f00", "teacher": "7ea0"}
    assert entry["settings"] == row()["settings"]
    assert "private" not in json.dumps(entry) and entry["config"]["dataset"]["path"] == "path/to/films"
    assert "0.1229" in (folder.parent / "published.md").read_text()  # SASRec on Movie, Table 2


def test_a_table_is_joined_from_rows_made_at_different_times(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    keep(made(tables, row("v2"), row("full", hit_rate=0.3)), experiments)
    keep(made(tables, row("palr"), row("full", hit_rate=0.4)), experiments)  # full again
    folder = keep(made(tables, row("full", seed=1, hit_rate=0.5)), experiments)
    entries = json.loads((folder / "rows.json").read_text())
    assert [(entry["row"], entry["seed"]) for entry in entries] == [("palr", 0), ("v2", 0), ("full", 0), ("full", 1)]
    lines = (folder / "table2.md").read_text().splitlines()[4:]
    assert [line.split(" <sub>")[0] for line in lines] == [
        "| palr | <ins>0.2000</ins>", "| v2 | <ins>0.2000</ins>", "| full (2 seeds) | **0.4500**",
    ]  # fmt: skip


def test_comparisons_do_not_outlive_their_rows(tables: Path, tmp_path: Path) -> None:
    def compared() -> list[tuple[str, str, int]]:
        entries = json.loads((tmp_path / "experiments" / NAME / "comparisons.json").read_text())
        return sorted((entry["better"], entry["worse"], entry["seed"]) for entry in entries)

    experiments = tmp_path / "experiments"
    keep(made(tables, row("v2"), row("v3")), experiments)
    folder = keep(made(tables, row("v2", seed=1), row("v3", seed=1)), experiments)
    keep(made(tables, row("palr"), row("zero_shot")), experiments)
    others = [("v3", "v2", 0), ("zero_shot", "palr", 0)]
    assert compared() == [others[0], ("v3", "v2", 1), others[1]]
    page = (folder / "comparisons.md").read_text()
    assert page.splitlines()[2] == "| Setting | Metric | zero\\_shot - palr | v3 - v2 (2 seeds) | n |"
    keep(made(tables, row("v2", seed=1), row("v1", seed=1)), experiments)
    assert compared() == [("v2", "v1", 1), *others]  # only what was made again goes


def test_curves_are_kept_once_for_all_rows_that_rest_on_them(tables: Path, tmp_path: Path) -> None:
    def rests_on(entry: dict[str, Any], **stages: str) -> dict[str, Any]:
        return entry | {
            "upstream": entry["upstream"]
            | {stage: {"directory": str(tmp_path / name), "fingerprint": name} for stage, name in stages.items()}
        }

    logs = {
        "sl1": ("step,train/loss\n0,3\n1,2\n", "step,train/loss\n1,8\n"),
        "rl1": ("step,reward/total,kl/policy\n0,1,\n1,4,.5\n", "step,reward/total,kl/policy\n1,8,9\n"),
        "rl2": ("step,reward/total,kl/policy\n0,1,2\n",),
    }
    for name, attempts in logs.items():
        for attempt, lines in enumerate(attempts):
            log = tmp_path / name / "logs" / f"attempt_{attempt}" / "metrics.csv"
            log.parent.mkdir(parents=True)
            log.write_text(lines)
    rows = rests_on(row("v2"), sl="sl1"), rests_on(row("full"), sl="sl1", rl="rl1")
    folder = keep(made(tables, *rows), tmp_path / "experiments")
    sl, rl = (pl.read_parquet(folder / f"curves-{stage}.parquet").rows() for stage in ("sl", "rl"))
    assert sl == [("v2", 0, 0, 3.0), ("v2", 0, 1, 8.0)]  # the later attempt counts
    assert rl == [("full", 0, 0, None, 1.0), ("full", 0, 1, 9.0, 8.0)]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Training loss per token" in page and "v2 from 3 to 8." in page and "full from 1 to 8." in page
    other = rests_on(row("full", seed=1), rl="rl2")
    keep(made(tables, other), tmp_path / "experiments")
    assert {line[:2] for line in pl.read_parquet(folder / "curves-rl.parquet").rows()} == {("full", 0), ("full", 1)}
    shutil.rmtree(tmp_path / "rl2")  # a model may be gone by the time its row is kept
    keep(made(tables, other), tmp_path / "experiments")
    assert pl.read_parquet(folder / "curves-rl.parquet").height == 3


def test_rows_of_other_settings_do_not_join(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    keep(made(tables, row("v2"), row("palr")), experiments)
    shorter = plain(compose("variant=v2", "sl.max_steps=3"))
    with pytest.raises(CtrlRecError, match=r"rows .*v2, seed 1.* were made with different settings"):
        keep(made(tables, row("v2", seed=1, config=shorter)), experiments)
    other_rl = plain(compose("variant=full", "rl.iterations=3", "dataset.path=/elsewhere/films"))
    keep(made(tables, row("full", config=other_rl)), experiments)  # v2 has no RL, and folders differ between machines


def of_rl(name: str, seed: int, run_seed: int = 0) -> dict[str, Any]:
    """A row with a seed of RL alone."""
    entry = row(name, run_seed, hit_rate=seed / 10)
    entry["config"]["rl"]["seed"] = seed
    return entry | {"seed": seed, "run_seed": run_seed}


def test_seeds_of_rl_join_and_do_not_mix_with_seeds_of_whole_runs(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    keep(made(tables, row("v2"), row("full")), experiments)
    rows = [of_rl("full", 1), of_rl("full", 4)]
    folder = keep(made(tables, *rows), experiments)
    lines = [line.split(" <sub>")[0] for line in (folder / "table2.md").read_text().splitlines()[4:]]
    assert lines == ["| v2 | <ins>0.2000</ins>", "| full (3 RL seeds) | **0.2333**"]
    for other in (row("v2", seed=1), row("full", seed=1)):
        with pytest.raises(
            CtrlRecError, match=r"rows full, seed [14], and .*, seed 1, were made with different settings"
        ):
            keep(made(tables, other), experiments)


def test_a_row_without_rl_that_is_made_again_takes_its_comparisons_with_every_seed_of_rl(
    tables: Path, tmp_path: Path
) -> None:
    made(tables, row("v2"), row("v3"), of_rl("full", 1))
    cell = {"value": 0.02, "low": -0.01, "high": 0.05, "n": 40}
    pair = {"better": "full", "seed": 1, "confidence": 0.95, "of_rl": True, "settings": {"sequential": {"HR@10": cell}}}
    (tables / "comparisons.json").write_text(json.dumps([pair | {"worse": worse} for worse in ("v2", "v3")]))
    folder = keep(tables, tmp_path / "experiments")
    keep(made(tables, row("v2")), tmp_path / "experiments")
    assert [entry["worse"] for entry in json.loads((folder / "comparisons.json").read_text())] == ["v3"]


def test_a_row_with_its_own_backbone_joins(tables: Path, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments"
    t5 = compose("variant=instructrec", "model=flan_t5_xl", "dataset.path=/elsewhere/films")
    other = row("instructrec", config=plain(t5))
    other["upstream"]["data"]["fingerprint"] = "0f75"  # another tokenizer
    keep(made(tables, row("full")), experiments)
    folder = keep(made(tables, other), experiments)
    assert "instructrec" in (folder / "table2.md").read_text()


def test_a_table_of_the_data_says_how_it_was_made(tables: Path, tmp_path: Path) -> None:
    (tables / "rows.json").unlink()
    (tables / "comparisons.json").unlink()
    for suffix in ("md", "csv"):
        (tables / f"table1.{suffix}").write_text("films")
    stage = {"git_commit": "0123abc", "command": "python -m ctrlrec output=/private", "upstream": {}}
    (tables / "table1.json").write_text(json.dumps(stage))
    folder = keep(tables, tmp_path / "experiments")
    assert {path.name for path in folder.iterdir()} == {"table1.md", "table1.csv", "table1.json"}
    assert json.loads((folder / "table1.json").read_text()) == stage | {"command": "python -m ctrlrec"}


@pytest.mark.parametrize("stage", ["data", "teacher"])
def test_rows_of_other_data_or_another_teacher_do_not_join(tables: Path, tmp_path: Path, stage: str) -> None:
    experiments = tmp_path / "experiments"
    folder = keep(tables, experiments)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    other = row("v2")
    other["upstream"][stage]["fingerprint"] = "0ther"
    with pytest.raises(CtrlRecError, match=r"rows\.json: rows of one table need one data set.*v2, seed 0.*0ther"):
        keep(made(tables, other), experiments)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_a_row_of_uncommitted_code_is_refused(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match="row full was made from"):
        keep(made(tables, row(git_commit="0123abc-dirty")), tmp_path / "experiments")
    with pytest.raises(CtrlRecError, match=r"row full, sl has no commit on record"):
        keep(made(tables, row(stages={"sl": {"git_commit": None}})), tmp_path / "experiments")


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match="no tables there"):
        keep(tmp_path, tmp_path)
