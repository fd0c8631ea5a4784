"""Two processes under torchrun: what they make is what one makes, and they stop together."""

from pathlib import Path

import pytest
import tiny_run
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.xdist_group("processes")

_TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def _validation_losses(result: Path) -> list[float]:
    lines = (result / "logs" / "attempt_0" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("validation/loss")
    return [float(cell) for line in lines[1:] if (cell := line.split(",")[column])]


def test_two_processes_make_what_one_makes(records: Path, tmp_path: Path) -> None:
    """Dropout is off: processes draw other numbers for it. 15 samples and 13 windows leave shares of unequal size."""
    made = []
    for name, launcher in (("one", ()), ("two", _TWO)):
        output = tmp_path / name
        arguments = tiny_run.settings(
            records, output, stage="sl", variant="v2", teacher__dropout=0.0, teacher__batch_size=13, sl__batch_size=15,
            trainer__precision="32-true",
        )  # fmt: skip
        process = tiny_run.start(arguments, tmp_path / f"{name}.log", launcher)
        assert process.wait(timeout=300) == 0, (tmp_path / f"{name}.log").read_text()
        made.append({stage: tiny_run.only(output / stage) for stage in ("teacher", "sl")})
        assert len(list((made[-1]["sl"] / "logs").iterdir())) == 1  # one process writes
    one, two = made
    for stage in ("teacher", "sl"):
        assert one[stage].name == two[stage].name
        (weights,) = one[stage].rglob("model.safetensors" if stage == "sl" else "sasrec.safetensors")
        expected, found = load_file(weights), load_file(two[stage] / weights.relative_to(one[stage]))
        assert expected.keys() == found.keys()
        for tensor, values in expected.items():
            assert torch.allclose(values, found[tensor], rtol=1e-3, atol=1e-4), (stage, tensor)
    assert _validation_losses(two["sl"]) == pytest.approx(_validation_losses(one["sl"]), rel=1e-4)


def test_all_processes_stop_where_a_number_is_not_finite(records: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = tiny_run.settings(records, tmp_path / "runs", stage="teacher", teacher__learning_rate=1e30)
    assert tiny_run.start(arguments, log, _TWO).wait(timeout=120) == 1
    assert "is not finite, nothing was trained on it" in log.read_text()
    assert (tiny_run.only(tmp_path / "runs" / "teacher", "*.partial") / "not_finite.safetensors").is_file()
