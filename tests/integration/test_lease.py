"""The script for a GPU that is lent for minutes, rehearsed on a CPU without the packages that such a machine lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run

_WITHOUT = """
import runpy, sys
for name in ("polars", "wandb", "datasets", "pooch"):
    sys.modules[name] = None
sys.argv = ["lease.py", "{part}"]
runpy.run_path("experiments/gpu/lease.py", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("part", "count"), [("env", 8), ("correct", 11), ("smollm2", 5)])
def test_every_part_runs_through(sweep, tmp_path: Path, part: str, count: int) -> None:
    variables = {"SMALL": "1", "WORLD": str(sweep.output), "OUT": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT.format(part=part)], cwd=tiny_run.ROOT, capture_output=True, text=True,
        env=os.environ | variables | {"PYTHONPATH": str(tiny_run.ROOT)}, check=False,
    )  # fmt: skip
    findings = json.loads((tmp_path / f"{part}.json").read_text())
    assert done.returncode == 0 and "FAILED" not in done.stdout, done.stdout + done.stderr
    assert len(findings) == count
