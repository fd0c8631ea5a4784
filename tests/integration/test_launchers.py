"""Sweeps whose rows run side by side, by every launcher that is installed."""

import json
from pathlib import Path

import pytest
import tiny_run


@pytest.mark.parametrize(
    ("launcher", "plugin"),
    [
        pytest.param("joblib", "joblib", marks=pytest.mark.slow),
        ("submitit_local", "submitit"),
        pytest.param("ray", "ray", marks=pytest.mark.slow),
    ],
)
def test_rows_share_their_stages_and_tables_and_survive_one_that_fails(
    sweep, copy_of, tmp_path: Path, launcher: str, plugin: str
) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{plugin}_launcher")
    pytest.importorskip(plugin)
    output = copy_of("data")
    rows = "variant=sasrec,zero_shot,api"  # api fails: nobody listens there
    arguments = sweep.arguments(output, api__url="http://127.0.0.1:9", api__attempts=1, api__backoff=0)
    log = tmp_path / "log"
    process = tiny_run.start(["-m", rows, f"hydra/launcher={launcher}", *arguments], log)
    assert process.wait(timeout=500) == 1
    lines = log.read_text().splitlines()
    assert lines[-1].startswith("error: ") and "127.0.0.1:9" in lines[-1], lines
    assert not any(line.startswith("Traceback") for line in lines)
    tiny_run.only(output / "teacher")
    (path,) = output.glob("tables/*/rows.json")
    made = {row["row"]: row["command"] for row in json.loads(path.read_text())}
    assert made.keys() == {"sasrec", "zero_shot"}
    assert all(command.startswith(f"python -m ctrlrec variant={row} ") for row, command in made.items())
