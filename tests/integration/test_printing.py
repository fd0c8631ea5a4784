"""A run whose output cannot be printed as it is, or not at all, ends as any other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run


@pytest.mark.parametrize("case", ["ascii", "pipe", "closed"])
def test_printing_never_ends_a_run(sweep, copy_of, tmp_path: Path, case: str) -> None:
    """The teacher's row again: titles, the tables' arrows and intervals, and the log."""
    output = copy_of("data", "teacher")
    command = [sys.executable, "-m", "ctrlrec", "variant=sasrec", *sweep.arguments(output)]
    environment = tiny_run.environment() | ({"PYTHONIOENCODING": "ascii"} if case == "ascii" else {})
    quoted = " ".join(f"'{word}'" for word in command)
    shell = {"ascii": quoted, "pipe": f"set -o pipefail; {quoted} | head -n 1", "closed": f"exec {quoted} >&- 2>&-"}
    done = subprocess.run(["bash", "-c", shell[case]], cwd=tmp_path, env=environment, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stdout + done.stderr
    (rows,) = output.glob("tables/*/rows.json")
    assert [row["row"] for row in json.loads(rows.read_text())] == ["sasrec"]
    if case == "ascii":
        assert b"Did it help?" in done.stdout and b"HR@10 ?" in done.stdout  # an arrow
