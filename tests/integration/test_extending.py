"""The plug-in of ``docs/extending.md``, written to a folder as it stands there and run through every stage."""

import json
import re
from pathlib import Path

import pytest
import tiny_run

PAGE = tiny_run.ROOT / "docs" / "extending.md"
FILE = re.compile(r'^```(?:python|yaml) title="([^"]+)"\n(.*?)^```$', re.M | re.S)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    for name, text in FILE.findall(PAGE.read_text(encoding="utf-8")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def command() -> list[str]:
    """The words of the command that the page gives."""
    (line,) = re.findall(r"^CTRLREC_PLUGINS=my_plugin python -m ctrlrec (.+)$", PAGE.read_text(encoding="utf-8"), re.M)
    return line.split()


@pytest.fixture(scope="module")
def output(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    tiny_run.write_records(folder / "records")
    arguments = [
        *(word for word in tiny_run.settings(folder / "records", folder / "runs") if not word.startswith("teacher.")),
        *command(),
    ]
    tiny_run.run(arguments, folder / "log", CTRLREC_PLUGINS=str(plugin))
    return folder / "runs"


def test_all_seven_kinds_of_choice_are_on_the_page(plugin: Path) -> None:
    assert {path.relative_to(plugin).as_posix() for path in plugin.rglob("*.py")} == {
        "teacher/models/markov.py", "rewards/schemes/hits.py", "evaluation/metrics/words.py",
        "controls/kinds/exactly.py", "rl/algorithms/reinforce.py", "generation/constraints/plain.py",
        "generation/engines/likeliest.py",
    }  # fmt: skip


def test_the_teacher_labels(output: Path) -> None:
    directory = tiny_run.only(output / "teacher")
    assert json.loads((directory / "teacher_model.json").read_text())["model"] == "markov"


def test_the_control_is_drawn_labelled_asked_and_measured(output: Path) -> None:
    rows = tiny_run.read_lines(tiny_run.only(output / "instructions") / "instructions.jsonl")
    drawn = [row for row in rows if row["task"] == "exactly"]
    catalogue = tiny_run.read_lines(tiny_run.only(output / "data") / "catalogue.jsonl")
    inside = {row["title"]: set(row["categories"]) for row in catalogue}
    assert drawn
    for row in drawn:
        count = sum(row["category"] in inside[title] for title in row["labels"])
        assert 100 * count == row["item_count"] * row["proportion"]
        assert f"exactly {row['proportion']}%" in row["prompt"]
    settings = json.loads((tiny_run.only(output / "evaluate") / "metrics.json").read_text())["settings"]
    assert "CPA" in settings["exactly_40"] and "CPA_free" in settings["exactly_40"]


def test_the_reward_the_algorithm_and_the_constraint_make_the_rollouts(output: Path) -> None:
    directory = tiny_run.only(output / "rl")
    assert "reinforce" in directory.name and "plain" in directory.name and "hits" in directory.name
    assert not (directory / "adapter" / "critic").exists()
    rows = tiny_run.read_lines(directory / "rollouts.jsonl")
    assert "exactly" in {row["task"] for row in rows}
    for row in rows:
        assert row["response"].isascii()
        if row["task"] == "sequential":  # both halves of an item reward are the same: 1 if legal, else -1
            assert row["item_reward"] == [1.0 if reason is None else -1.0 for reason in row["illegal"]]


def test_the_engine_answers(output: Path) -> None:
    for stage in ("rl", "evaluate"):
        made = json.loads((tiny_run.only(output / stage) / "provenance.json").read_text())
        assert made["config"]["generation"]["engine"] == "likeliest"


def test_the_metric_is_kept_and_shown(output: Path) -> None:
    directory = tiny_run.only(output / "evaluate")
    predictions = tiny_run.read_lines(directory / "predictions.jsonl")
    settings = json.loads((directory / "metrics.json").read_text())["settings"]
    for name, metrics in settings.items():
        lists = [[title for title in row["items"] if title] for row in predictions if row["setting"] == name]
        means = [sum(len(title.split()) for title in titles) / len(titles) for titles in lists if titles]
        if means:
            assert metrics["Words"]["value"] == pytest.approx(sum(means) / len(means))
        else:
            assert "Words" not in metrics
    assert all(row["response"].isascii() for row in predictions)
