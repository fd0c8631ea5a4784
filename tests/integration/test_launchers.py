"""Sweeps whose rows run side by side, by every launcher that is installed."""

import json
from pathlib import Path

import pytest
import tiny_run


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "plugin"), [("joblib", "joblib"), ("submitit_local", "submitit"), ("ray", "ray")])
def test_rows_share_their_stages_and_tables_and_survive_one_that_fails(
    sweep, copy_of, tmp_path: Path, launcher: str, plugin: str
) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{plugin}_launcher")
    pytest.importorskip(plugin)
    output = copy_of("data")
    rows = "variant=sasrec,zero_shot,api"  # api fails: it has no key
    arguments = sweep.arguments(output, api__key_variable="NO_SUCH_KEY")
    log = tmp_path / "log"
    process = tiny_run.start(["-m", rows, f"hydra/launcher={launcher}", *arguments], log)
    assert process.wait(timeout=500) == 1
    lines = log.read_text().splitlines()
    assert lines[-1].startswith("error: ") and "NO_SUCH_KEY" in lines[-1], lines
    assert not any(line.startswith("Traceback") for line in lines)
    tiny_run.only(output / "teacher")
    (path,) = output.glob("tables/*/rows.json")
    made = {row["row"]: row["command"] for row in json.loads(path.read_text())}
    assert made.keys() == {"sasrec", "zero_shot"}
    assert all(command.startswith(f"python -m ctrlrec variant={row} ") for row, command in made.items())
