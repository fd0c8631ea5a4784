"""Seconds of phases are of work done, and not of work handed to a GPU."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ctrlrec.runtime import processes
from ctrlrec.runtime.progress import PhaseProfiler, progress


@pytest.mark.parametrize("used", [True, False])
def test_a_phase_begins_and_ends_with_an_idle_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, used: bool) -> None:
    happened: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: happened.append("wait"))
    profiler = PhaseProfiler(tmp_path)
    with profiler.profile("phase: learn"):
        happened.append("work")
    assert happened == (["wait", "work", "wait"] if used else ["work"])
    profiler.describe()
    assert "| learn | 1 |" in (tmp_path / "profile.md").read_text()


@pytest.mark.parametrize("rank", [0, 1])
def test_process_0_alone_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, rank: int) -> None:
    monkeypatch.setattr(processes, "rank", lambda: rank)
    config: Any = SimpleNamespace(progress=True)
    with progress(config, "sequential", 3) as advance:
        advance(3)
    assert ("sequential" in capsys.readouterr().out) == (rank == 0)
