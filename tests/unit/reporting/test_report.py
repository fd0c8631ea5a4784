import json

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ctrlrec.__main__ import conf_directory
from ctrlrec.config import plain, validate
from ctrlrec.reporting.report import report


def config(root, *overrides):
    with initialize_config_dir(str(conf_directory().resolve()), version_base="1.3"):
        composed = compose("config", overrides=[f"output={root}", *overrides])
    return validate(OmegaConf.create(OmegaConf.to_container(composed, resolve=False)))


@pytest.fixture
def evaluate(tmp_path):
    def make(name, value, *overrides):
        settings = config(tmp_path, *overrides)
        directory = tmp_path / "evaluate" / name
        directory.mkdir(parents=True)
        cell = {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 50}
        found = {"sequential": {"HR@10": cell}, "category_positive": {"TCP@10": cell}}
        upstream = {stage: {"directory": str(tmp_path / stage)} for stage in ("sl", "rl")}
        (directory / "metrics.json").write_text(json.dumps({"settings": found}))
        (directory / "provenance.json").write_text(json.dumps({"config": plain(settings), "upstream": upstream}))
        return settings, directory

    return make


def test_a_run_reports_all_finished_rows_that_belong_together(tmp_path, evaluate, capsys):
    evaluate("zero", 0.2, "variant=zero_shot")
    evaluate("v2", 0.4, "variant=v2", "rl.iterations=77")
    evaluate("v1-another", 0.9, "variant=v1", "sl.epochs=77")
    (tmp_path / "evaluate" / "v3.partial").mkdir()
    (tmp_path / "evaluate" / "v3.partial" / "metrics.json").write_text("{}")
    for attempt in (0, 1):
        log = tmp_path / "rl" / "logs" / f"attempt_{attempt}" / "metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text("step,reward/total\n0,1\n1,2\n")
    settings, directory = evaluate("full", 0.6, "variant=full")

    folder = report(settings, directory)

    text = (folder / "table2.md").read_text()
    assert [line.split(" | ")[0] for line in text.splitlines()[4:]] == ["| zero\\_shot", "| v2", "| full"]
    assert "**60.0** <sub>±10.0</sub>" in (folder / "summary.md").read_text()
    assert {path.name for path in folder.iterdir()} == {
        *(f"table{number}{form}" for number in (2, 3) for form in (".md", ".tex", ".html", ".csv")),
        "summary.md",
        "curves-rl-full.png",
    }
    printed = capsys.readouterr().out
    assert "Table 2 of the paper" in printed
    assert printed.index("Did it help?") > printed.index("Table 3 of the paper")


def test_seeds_become_one_row(evaluate):
    evaluate("one", 0.4, "variant=v2", "seed=1")
    settings, directory = evaluate("two", 0.6, "variant=v2", "seed=2")
    assert "v2 (2 seeds)" in (report(settings, directory) / "table2.md").read_text()
