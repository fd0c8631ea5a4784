"""Seconds of phases are of work done, and not of work handed to a GPU."""

from pathlib import Path

import pytest
import torch

from ctrlrec.runtime.progress import PhaseProfiler


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
