"""The commit that a result says it was made from."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import files, provenance


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str | None, str, bool]]]:
    """What the source tree is at, to be changed as if somebody worked in it."""
    state: list[tuple[str | None, str, bool]] = [("0a", "code", False)]
    monkeypatch.setattr(provenance, "_state", lambda: state[0])
    provenance.code_at_start.cache_clear()
    yield state
    provenance.code_at_start.cache_clear()


@pytest.mark.parametrize(
    ("first", "now", "said"),
    [
        (("0a", "code", False), ("0a", "code", False), "0a"),
        (("0a", "code", False), ("0b", "other", False), "0a-dirty"),
        (("0a", "code", False), ("0b", "code", False), "0a"),  # a commit of the README alone
        (("0a", "code", False), ("0a", "code", True), "0a-dirty"),
        (("0a", "code", True), ("0a", "code", True), "0a-dirty"),
        (("0a", "code", True), ("0b", "other", False), "0a-dirty"),
        ((None, "", False), (None, "", False), None),
    ],
)
def test_a_tree_whose_code_moved_on_is_no_clean_commit(tree: list, first: tuple, now: tuple, said: str | None) -> None:
    tree[0] = first
    provenance.git_commit()
    tree[0] = now
    assert provenance.git_commit() == said


def attempt(tree: list, commit: str, directory: Path) -> None:
    """In a process of its own."""
    tree[0] = (commit, commit, False)
    provenance.code_at_start.cache_clear()
    provenance.begin_attempt(directory, {"rl": {"files": commit, "code": commit}}, {"sl": {"made": "m"}}, {})


def publish(directory: Path) -> dict:
    provenance.write(
        directory, command="", config={"seed": 3}, seconds=2.0, processes=2, upstream={"sl": {"made": "m"}}, made="n"
    )
    return json.loads((directory / "provenance.json").read_text())


@pytest.mark.parametrize("left", ["checkpoints/last.ckpt", "answered/sequential.jsonl"])
def test_attempts_that_a_result_went_on_from_are_recorded(tree: list, tmp_path: Path, left: str) -> None:
    attempt(tree, "0a", tmp_path)  # killed before it left anything
    attempt(tree, "0b", tmp_path)
    (tmp_path / left).parent.mkdir()
    (tmp_path / left).touch()
    attempt(tree, "0c", tmp_path)
    attempt(tree, "0d", tmp_path)
    made = publish(tmp_path)
    assert (made["git_commit"], made["seed"], made["processes"]) == ("0d", 3, 2)
    assert [earlier["git_commit"] for earlier in made["earlier_attempts"]] == ["0b", "0c"]
    assert made["earlier_attempts"][0]["packages"] == made["packages"]
    assert (made["code"]["rl"]["code"], made["upstream"], made["made"]) == ("0d", {"sl": {"made": "m"}}, "n")
    assert [earlier["code"]["rl"]["code"] for earlier in made["earlier_attempts"]] == ["0b", "0c"]
    (told,) = {tuple(earlier) for earlier in provenance.how_made(tmp_path)["earlier_attempts"]}
    assert told == ("git_commit", "packages", "hardware")


def test_a_folder_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(3 * 2**20))
    before, without = files.folder_digest(tmp_path), files.folder_digest(tmp_path, (".safetensors",))
    weights.write_bytes(bytes(3 * 2**20 - 1) + b"1")
    assert files.folder_digest(tmp_path) != before
    assert files.folder_digest(tmp_path, (".safetensors",)) == without
    (tmp_path / "config.json").write_text("{} ")
    assert files.folder_digest(tmp_path, (".safetensors",)) != without


@pytest.mark.parametrize("earlier", [[], None, [{"git_commit": "0b"}]])
def test_what_commits_hold_may_be_published(earlier: list[dict[str, str]] | None) -> None:
    provenance.check_committed({"git_commit": "0a", "earlier_attempts": earlier}, "it")


@pytest.mark.parametrize(
    "made",
    [
        {"git_commit": None},
        {"git_commit": "0a-dirty"},
        {"git_commit": "0a", "earlier_attempts": [{"git_commit": "0b"}, {"git_commit": "0b-dirty"}]},
        {"git_commit": "0a", "earlier_attempts": [{"git_commit": None}]},
    ],
)
def test_what_no_commit_holds_may_not(made: dict) -> None:
    with pytest.raises(CtrlRecError, match=r"runs/sl/x (was made from '0[ab]-dirty', no clean|has no) commit"):
        provenance.check_committed(made, "runs/sl/x")


def test_no_character_of_a_row_ends_a_line(tmp_path: Path) -> None:
    """Readers differ in what they take for the end of a line."""
    rows = [{"user": f"a{end}b", "items": [end, f'"{end}\\']} for end in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"]
    files.write_jsonl(tmp_path / "rows.jsonl", rows)
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == rows
    assert files.read_jsonl(tmp_path / "rows.jsonl") == rows


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one room, whose code is taken for the package's."""
    room = tmp_path / "ctrlrec" / "rewards"
    room.mkdir(parents=True)
    (room / "item.py").write_text("weight = 1\n")
    (tmp_path / "ctrlrec" / "judging.py").write_text("pass\n")
    for words in (
        ["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "First"],
    ):  # fmt: skip
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.yaml").write_text("a: 1\n")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "Second"]
    subprocess.run(commit, cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "ctrlrec" / "runtime" / "provenance.py"))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("ctrlrec/rewards/item.py", True),
        ("ctrlrec/rewards/own.py", True),
        ("conf/own.yaml", True),
        ("notes.txt", False),
    ],
)
def test_code_that_no_commit_holds_is_a_change(package: Path, file: str, changed: bool) -> None:
    """A file that was never added decides results as well as an edited one."""
    assert provenance._state()[2] is False
    (package / file).write_text("weight = 2\n")
    assert provenance._state()[2] is changed
