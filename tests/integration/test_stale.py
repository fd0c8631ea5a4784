"""Results that other code made: named, reused or rebuilt, with all that was made from them."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_run
from tiny_run import happened

ALL = ("data", "teacher", "instructions", "sl", "rl", "evaluate")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code to be edited; runs that start in it use it."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("ctrlrec", "conf"):
        shutil.copytree(tiny_run.ROOT / part, folder / part, ignore=ignored)
    return folder


@pytest.fixture
def call(sweep, checkout: Path) -> Callable[..., tuple[int, str]]:
    def run(output: Path, *words: str) -> tuple[int, str]:
        log = checkout / "log"
        status = tiny_run.start([*words, *sweep.arguments(output)], log).wait(timeout=300)
        printed = log.read_text()
        assert "Traceback" not in printed, printed
        return status, printed

    return run


def edit(checkout: Path, file: str) -> None:
    with (checkout / "ctrlrec" / file).open("a") as opened:
        opened.write("\n_OF_NO_USE = 1\n")


def made(printed: str) -> list[str]:
    return [stage for stage, what in happened(printed) if what in ("run", "resume")]


def test_an_edited_reward_is_named_reused_or_run(copy_of, checkout: Path, call) -> None:
    output = copy_of(*ALL)
    (old,) = output.glob("rl/*-????????????")
    reward = checkout / "ctrlrec" / "rewards" / "credit.py"
    reward.write_text("# a comment\n" + reward.read_text())
    status, printed = call(output, "variant=full")
    assert status == 0 and {what for _, what in happened(printed)} == {"reuse"}

    edit(checkout, "rewards/credit.py")
    status, printed = call(output, "variant=full")
    assert status == 1 and not happened(printed)
    (error,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert error.count("changed since") == 1 and f"{old}: code in rewards changed since it was made" in error
    assert "stale=rebuild" in error and "stale=reuse" in error
    assert call(output, "variant=v2")[0] == 0  # does not rest on it

    status, printed = call(output, "variant=full", "stale=reuse")
    assert status == 0 and {what for _, what in happened(printed)} == {"reuse"}
    assert len(re.findall(r"stale .*code in rewards changed", printed)) == 1

    before = json.loads((old / "provenance.json").read_text())
    status, printed = call(output, "-m", "variant=v2,full", "stale=rebuild")
    assert status == 0 and made(printed) == ["rl", "evaluate"]
    assert [path.name for path in (output / "rl").iterdir() if path.is_dir()] == [old.name]
    after = json.loads((old / "provenance.json").read_text())
    assert after["made"] != before["made"] and after["code"].keys() == before["code"].keys()
    status, printed = call(output, "-m", "variant=v2,full")
    assert status == 0 and not made(printed)


@pytest.mark.slow
def test_what_was_made_from_a_rebuilt_result_is_rebuilt_too(copy_of, checkout: Path, call) -> None:
    output = copy_of(*ALL)
    edit(checkout, "sl/train.py")
    status, printed = call(output, "stage=sl", "variant=full", "stale=rebuild")
    assert status == 0 and made(printed) == ["sl"]
    status, printed = call(output, "variant=full")
    assert status == 1 and "sl changed since it was made" in printed.splitlines()[-1]
    assert not happened(printed)
    # A row of the same folder that was not rebuilt stays out of the table.
    status, printed = call(output, "variant=full", "stale=rebuild")
    assert status == 0 and made(printed) == ["rl", "evaluate"]
    assert re.search(r"not shown: v2, seed 0 .*: sl changed since it was made", printed)
    (rows,) = output.glob("tables/*/rows.json")
    assert [row["row"] for row in json.loads(rows.read_text())] == ["full"]


@pytest.mark.slow
def test_processes_side_by_side_rebuild_once(sweep, copy_of, checkout: Path) -> None:
    output = copy_of(*ALL)
    edit(checkout, "lm/adapters.py")
    rows = ("v2", "full")
    processes = [
        tiny_run.start([f"variant={row}", "stale=rebuild", *sweep.arguments(output)], checkout / row) for row in rows
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    printed = "".join((checkout / row).read_text() for row in rows)
    assert sorted(made(printed)) == ["evaluate", "evaluate", "rl", "sl"]
    for stage in ALL:
        assert not list((output / stage).glob("*.partial")) and not list((output / stage).glob("*.replaced"))


@pytest.mark.slow
def test_an_attempt_begun_by_other_code_is_resumed_only_if_told(copy_of, checkout: Path, call) -> None:
    output = copy_of("data", "teacher", "instructions", "sl")
    (finished,) = output.glob("sl/*-????????????")
    partial = finished.rename(f"{finished}.partial")
    for name in ("provenance.json", "files.json"):
        (partial / name).unlink()
    (partial / "checkpoints").mkdir()
    (partial / "checkpoints" / "last.ckpt").write_text("of other code")
    edit(checkout, "sl/stream.py")
    words = ("stage=sl", "variant=v2")
    status, printed = call(output, *words)
    assert status == 1 and f"{partial}: code in sl changed since it was begun" in printed.splitlines()[-1]
    status, printed = call(output, *words, "stale=reuse")
    assert made(printed) == ["sl"] and "resume" in printed
    assert status == 1 and "last.ckpt: cannot be read" in printed.splitlines()[-1]
    status, printed = call(output, *words, "stale=rebuild")
    assert status == 0 and ("sl", "run") in happened(printed)
    assert json.loads((finished / "provenance.json").read_text())["earlier_attempts"] == []


@pytest.mark.slow
def test_a_result_that_was_rebuilt_under_a_running_stage_is_noticed(sweep, copy_of, call) -> None:
    output = copy_of("data", "teacher", "instructions")
    teacher = tiny_run.only(output / "teacher")
    log = output.parent / "first"
    first = tiny_run.start(["stage=sl", "variant=v2", *sweep.arguments(output, sl__max_steps=60)], log)
    while not list((output / "sl").glob("*.partial/checkpoints/last.ckpt")):
        assert first.poll() is None, log.read_text()
    record = json.loads((teacher / "provenance.json").read_text())
    (teacher / "provenance.json").write_text(json.dumps(record | {"made": "of another process"}))
    assert first.wait(timeout=200) == 1
    assert "another process rebuilt it" in log.read_text().splitlines()[-1]
