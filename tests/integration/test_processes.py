"""Two processes under torchrun: what they make is what one makes, and they stop together."""

import csv
from pathlib import Path

import pytest
import tiny_run
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.xdist_group("processes")

_TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def _logged(result: Path, column: str) -> list[float]:
    with (result / "logs" / "attempt_0" / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


# The command line, with answers that hang on the prompt alone where each process would draw its own.
_FIXED_ANSWERS = """
import random, sys
from ctrlrec.__main__ import main
from ctrlrec.lm.generation import Sample
from ctrlrec.rl import rollout

def generate(model, chat_format, prompts, max_new_tokens, engine, temperature, samples):
    rngs = [random.Random(f"{prompt} {sample}") for prompt in prompts for sample in range(samples)]
    titles = [[f"{place}. {rng.choice(('Red', 'Old'))} Fox" for place in range(1, 6)] for rng in rngs]
    rows = chat_format.responses(["\\n".join(lines) for lines in titles])
    return [Sample(row, [0.0] * len(row)) for row in rows]

rollout.generate = generate
sys.exit(main())
"""


def test_two_processes_make_what_one_makes(records: Path, tmp_path: Path) -> None:
    """Without dropout. 15 samples, 13 windows, 5 prompts and minibatches of 5 answers leave shares of unequal size."""
    script = tmp_path / "fixed_answers.py"
    script.write_text(_FIXED_ANSWERS)
    made = []
    for name, launcher in (("one", ()), ("two", _TWO)):
        output = tmp_path / name
        arguments = tiny_run.settings(
            records, output, stage="rl", variant="full", teacher__dropout=0.0, teacher__batch_size=13,
            sl__batch_size=15, rl__prompts=5, rl__iterations=2, trainer__precision="32-true",
        )  # fmt: skip
        process = tiny_run.start(arguments, tmp_path / f"{name}.log", (*launcher, str(script)))
        assert process.wait(timeout=300) == 0, (tmp_path / f"{name}.log").read_text()
        made.append({stage: tiny_run.only(output / stage) for stage in ("teacher", "sl", "rl")})
        for result in made[-1].values():
            assert len(list((result / "logs").iterdir())) == 1  # one process writes
    one, two = made
    for stage, pattern in (("teacher", "sasrec.safetensors"), ("sl", "model.safetensors")):
        assert one[stage].name == two[stage].name
        (weights,) = one[stage].rglob(pattern)
        expected, found = load_file(weights), load_file(two[stage] / weights.relative_to(one[stage]))
        assert expected.keys() == found.keys()
        for tensor, values in expected.items():
            assert torch.allclose(values, found[tensor], rtol=1e-3, atol=1e-4), (stage, tensor)
    assert _logged(two["sl"], "validation/loss") == pytest.approx(_logged(one["sl"], "validation/loss"), rel=1e-4)
    # Of RL the gradients: Adam makes whole steps of the rounding in those that are zero.
    for column in ("reward/total", "policy/tokens", "kl/reference", "loss/policy", "loss/value", "gradient/actor",
                   "gradient/critic"):  # fmt: skip
        assert _logged(two["rl"], column) == pytest.approx(_logged(one["rl"], column), rel=1e-2, abs=1e-5), column
    assert len(_logged(two["rl"], "reward/total")) == 2
    assert (two["rl"] / "rollouts.jsonl").read_text() == (one["rl"] / "rollouts.jsonl").read_text()


def test_all_processes_stop_where_a_number_is_not_finite(records: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = tiny_run.settings(records, tmp_path / "runs", stage="teacher", teacher__learning_rate=1e30)
    assert tiny_run.start(arguments, log, (*_TWO, "-m", "ctrlrec")).wait(timeout=120) == 1
    assert "is not finite, nothing was trained on it" in log.read_text()
    assert (tiny_run.only(tmp_path / "runs" / "teacher", "*.partial") / "not_finite.safetensors").is_file()
