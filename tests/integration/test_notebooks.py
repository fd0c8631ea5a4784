"""Notebooks keep small outputs of toy data, and run from top to bottom on a finished run."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_run

NOTEBOOKS = sorted((tiny_run.ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_small_and_of_one_run_through(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert "display_data" in kinds and "error" not in kinds
    assert len(text) < 100_000 and "experiment=toy" in text
    assert not re.search(r"/(home|root|tmp|Users)/|Traceback|Warning", text)  # nothing of the machine


def _execute(path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    for name, value in (tiny_run.environment() | {"CTRLREC_RUNS": str(runs)}).items():
        monkeypatch.setenv(name, value)
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    _execute(path, sweep.output, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [False, True], ids=["as_kept", "misplaced"])
def test_rewards_without_those_of_items(
    wrong: bool, copy_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record like v3's with a weight of its own; where the list's reward was misplaced, the notebook must say so."""
    runs = copy_of("data", "rl")
    stage = tiny_run.only(runs / "rl")
    made = json.loads((stage / "provenance.json").read_text(encoding="utf-8"))
    made["config"]["reward"] |= {"item_weight": 0.0, "list_weight": 3.0}
    (stage / "provenance.json").write_text(json.dumps(made), encoding="utf-8")
    rows = tiny_run.read_lines(stage / "rollouts.jsonl")
    for row in rows:
        row["tokens"] += wrong  # the last index of reward_at is then no longer the answer's last token
    (stage / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    notebook = tiny_run.ROOT / "notebooks" / "anatomy_of_a_reward.ipynb"
    if not wrong:
        _execute(notebook, runs, monkeypatch)
        return
    with pytest.raises(Exception, match=r"(?s)allclose.*AssertionError"):
        _execute(notebook, runs, monkeypatch)
