"""The commit that a result says it was made from."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrlrec import provenance
from ctrlrec.errors import CtrlRecError


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | None]]:
    """What the source tree is at, to be changed as if somebody worked in it."""
    state: list[str | None] = ["0a"]
    monkeypatch.setattr(provenance, "_commit", lambda: state[0])
    provenance._first_commit.cache_clear()
    yield state
    provenance._first_commit.cache_clear()


@pytest.mark.parametrize(
    ("first", "now", "said"),
    [
        ("0a", "0a", "0a"),
        ("0a", "0b", "0a-dirty"),
        ("0a", "0a-dirty", "0a-dirty"),
        ("0a-dirty", "0a-dirty", "0a-dirty"),
        ("0a-dirty", "0b", "0a-dirty"),
        (None, None, None),
    ],
)
def test_a_tree_that_moved_on_is_no_clean_commit(
    tree: list[str | None], first: str | None, now: str | None, said: str | None
) -> None:
    tree[0] = first
    assert provenance.git_commit() == first
    tree[0] = now
    assert provenance.git_commit() == said


def test_attempts_that_a_result_went_on_from_are_recorded(tree: list[str | None], tmp_path: Path) -> None:
    for commit in ("0a", "0b", "0c"):
        tree[0] = commit
        provenance._first_commit.cache_clear()  # a process of its own
        provenance.begin_attempt(tmp_path)
    provenance.write(tmp_path, command="", config={"seed": 3}, seconds=2.0, upstream={})
    made = json.loads((tmp_path / "provenance.json").read_text())
    assert made["git_commit"] == "0c" and made["seed"] == 3
    assert [attempt["git_commit"] for attempt in made["earlier_attempts"]] == ["0a", "0b"]
    assert made["earlier_attempts"][0]["packages"] == made["packages"]


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
    with pytest.raises(CtrlRecError, match=r"runs/sl/x was made from '.*', no clean commit"):
        provenance.check_committed(made, "runs/sl/x")
