"""The code that a result rests on: what counts as a change of it, and what does not."""

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrlrec.config.choices import PLUGINS
from ctrlrec.config.compose import compose
from ctrlrec.runtime import code

composed = functools.cache(compose)
STAGES = ("data", "teacher", "instructions", "sl", "rl", "evaluate")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package, to be edited."""
    shutil.copytree(code._HOME, tmp_path / "ctrlrec", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "_HOME", tmp_path / "ctrlrec")
    forget()
    yield tmp_path / "ctrlrec"
    forget()


def forget() -> None:
    for kept in (code.source, code._digests, code._bare):
        kept.cache_clear()


def stages_changed(package: Path, edit, *overrides: str) -> dict[str, list[str]]:
    """The rooms that changed, by stage, for each stage that an edit changed."""
    chosen = code.choices(composed(*overrides))
    before = {stage: code.digests(f"pipeline.{stage}", chosen) for stage in STAGES}
    edit(package)
    forget()
    found = {stage: code.changed(before[stage], code.digests(f"pipeline.{stage}", chosen)) for stage in STAGES}
    return {stage: rooms for stage, rooms in found.items() if rooms}


def replace(file: str, old: str, new: str):
    def edit(package: Path) -> None:
        text = (package / file).read_text()
        assert old in text
        (package / file).write_text(text.replace(old, new))

    return edit


def add(file: str, text: str):
    def edit(package: Path) -> None:
        with (package / file).open("a") as opened:
            opened.write(text)

    return edit


@pytest.mark.parametrize(
    ("edit", "stages"),
    [
        (add("rewards/list.py", "\nweight = 1\n"), {"rl"}),
        (add("rl/losses.py", "\nweight = 1\n"), {"rl"}),
        (add("evaluation/metrics.py", "\nweight = 1\n"), {"evaluate"}),
        (add("sl/train.py", "\nweight = 1\n"), {"sl"}),
        (add("teacher/train.py", "\nweight = 1\n"), {"teacher"}),
        (add("teacher/ranker.py", "\nweight = 1\n"), {"instructions", "sl", "rl", "evaluate", "teacher"}),
        (add("data/cleaning.py", "\nweight = 1\n"), {"data"}),
        (add("instructions/templates.yaml", "\nmore: words\n"), {"data", "instructions", "sl", "rl", "evaluate"}),
        (add("lm/adapters.py", "\nweight = 1\n"), {"sl", "rl", "evaluate"}),
        (add("runtime/trainer.py", "\nweight = 1\n"), {"teacher", "sl", "rl"}),
        (add("pipeline/evaluate.py", "\nweight = 1\n"), {"evaluate"}),
        (add("runtime/loggers.py", "\nweight = 1\n"), set()),
        (add("reporting/tables.py", "\nweight = 1\n"), set()),
        (add("config/checks.py", "\nweight = 1\n"), set()),
        (add("pipeline/run.py", "\nweight = 1\n"), set()),
    ],
)
def test_an_edit_changes_the_stages_that_rest_on_it(package: Path, edit, stages: set[str]) -> None:
    assert stages_changed(package, edit).keys() == stages


def test_comments_and_docstrings_are_no_code(package: Path) -> None:
    def edit(package: Path) -> None:
        for path in (package / "rewards").glob("*.py"):
            text = path.read_text().replace('"""', '"""Other words. ', 1)
            path.write_text(f"# a comment\n\n{text}\n\n\n# the end\n")

    assert not stages_changed(package, edit)


def test_what_is_left_of_a_module_tells_code_apart(tmp_path: Path) -> None:
    texts = (
        'x = "a"\n', '"""Doc."""\n\nx = "a"  # why\n', 'x = "b"\n', 'x = "a"\n"""no docstring"""\n',
        'def f():\n    """Doc."""\n', 'def f():\n    """Other."""\n', 'def f():\n    return "Doc."\n',
    )  # fmt: skip
    left = []
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.py").write_text(text)
        left.append(code._bare(tmp_path / f"{number}.py"))
    assert left[0] == left[1] and left[4] == left[5]
    assert len(set(left)) == 5


def test_of_a_folder_of_choices_only_the_chosen_counts(package: Path) -> None:
    asked = ("dataset=movielens_100k",)
    assert not stages_changed(package, add("data/sources/mine.py", "SOURCE = None\n"), *asked)
    assert not stages_changed(package, add("data/sources/steam.py", "\nweight = 1\n"), *asked)
    edit = add("data/sources/movielens_100k.py", "\nweight = 1\n")
    assert stages_changed(package, edit, *asked) == {"data": ["data"]}
    every = {stage for stage in STAGES if stage != "teacher"}
    assert stages_changed(package, add("controls/kinds/about.py", "\nweight = 1\n"), *asked).keys() == every


def test_a_plug_in_is_code_of_the_room_that_it_mirrors(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "plugin"
    (plugin / "data" / "sources").mkdir(parents=True)
    mine = plugin / "data" / "sources" / "mine.py"
    mine.write_text("SOURCE = 1\n")
    monkeypatch.setenv(PLUGINS, str(plugin))
    asked = ("dataset=records", "dataset.path=x", "dataset.source=mine")
    assert not stages_changed(package, lambda _: mine.write_text("# words\nSOURCE = 1\n"), *asked)
    assert stages_changed(package, lambda _: mine.write_text("SOURCE = 2\n"), *asked) == {"data": ["data"]}
    (plugin / "data" / "sources" / "other.py").write_text("SOURCE = 1\n")
    edit = lambda _: (plugin / "data" / "sources" / "other.py").write_text("SOURCE = 2\n")  # noqa: E731
    assert not stages_changed(package, edit, *asked)


def test_code_is_that_of_the_start(package: Path) -> None:
    """A tree that moves on during a run is not what made its results."""
    chosen = code.choices(composed())
    code.remember()
    add("rewards/list.py", "\nweight = 1\n")(package)
    before = code.digests("pipeline.rl", chosen)
    forget()
    assert code.changed(before, code.digests("pipeline.rl", chosen)) == ["rewards"]


def test_a_record_without_a_room_is_of_other_code() -> None:
    now = code.digests("pipeline.rl", code.choices(composed()))
    assert code.changed({}, now) == sorted(now)
    assert code.changed(now, now) == []
    assert code.changed(now | {"old": {"files": "a", "code": "b"}}, now) == ["old"]
    recorded = now | {"rl": {"files": now["rl"]["files"], "code": "of another Python"}}
    assert code.changed(recorded, now) == []
