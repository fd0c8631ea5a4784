"""Two processes under torchrun: what they make is what one makes, and they stop together."""

import csv
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import tiny_run
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from ctrlrec.lm.backbone import train_tokenizer

_TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def _logged(result: Path, column: str) -> list[float]:
    with (result / "logs" / "attempt_0" / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


# The command line, with answers that hang on the prompt alone where each process would draw its own.
_FIXED_ANSWERS = """
import random, sys
from ctrlrec.__main__ import main
from ctrlrec.generation.engines.native import Native, Sample

def answers(self, prompts, samples, temperature, constraint):
    rngs = [random.Random(f"{prompt.tokens} {sample}") for prompt in prompts for sample in range(samples)]
    titles = [[f"{place}. {rng.choice(('Red', 'Old'))} Fox" for place in range(1, 6)] for rng in rngs]
    rows = self.setup.chat_format.responses(["\\n".join(lines) for lines in titles])
    return ((place, Sample(row, [0.0] * len(row))) for place, row in enumerate(rows))

Native._answers = answers
sys.exit(main())
"""


def test_two_processes_make_what_one_makes(records: Path, tmp_path: Path) -> None:
    """Without dropout. 15 samples, 13 windows, 5 prompts, minibatches of 5, 5 users: shares are of unequal size."""
    script = tmp_path / "fixed_answers.py"
    script.write_text(_FIXED_ANSWERS)
    made = []
    for name, launcher in (("one", ()), ("two", _TWO)):
        output = tmp_path / name
        arguments = tiny_run.settings(
            records, output, variant="full", teacher__options__dropout=0.0, teacher__batch_size=13,
            sl__batch_size=15, rl__prompts=5, rl__iterations=2, trainer__precision="32-true",
            evaluation__users=5, evaluation__settings="[sequential,about_30,blend_2]",
        )  # fmt: skip
        process = tiny_run.start(arguments, tmp_path / f"{name}.log", (*launcher, str(script)))
        assert process.wait(timeout=300) == 0, (tmp_path / f"{name}.log").read_text()
        made.append({stage: tiny_run.only(output / stage) for stage in ("teacher", "sl", "rl", "evaluate")})
        for result in made[-1].values():
            assert len(list((result / "logs").glob("attempt_*"))) == 1  # one process writes
            assert not json.loads((result / "provenance.json").read_text())["earlier_attempts"]
    one, two = made
    for stage, pattern in (("teacher", "teacher.safetensors"), ("sl", "model.safetensors")):
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
    for stage, name in (("rl", "rollouts.jsonl"), ("evaluate", "predictions.jsonl"), ("evaluate", "metrics.json")):
        assert (two[stage] / name).read_text() == (one[stage] / name).read_text()


# The command line, with a second process that cannot answer.
_CANNOT_ANSWER = """
import sys
from ctrlrec.__main__ import main
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.engines.native import Native
from ctrlrec.runtime import processes

def answers(self, *arguments):
    if processes.rank() == 1:
        raise CtrlRecError("the second process has no answer")
    return given(self, *arguments)

given, Native._answers = Native._answers, answers
sys.exit(main())
"""


@pytest.mark.slow
def test_two_processes_answer_what_one_answers(records: Path, tmp_path: Path) -> None:
    """With one trained model, which must write lists. The row of the teacher is answered by process 0 alone."""
    script, log = tmp_path / "cannot_answer.py", tmp_path / "log"
    script.write_text(_CANNOT_ANSWER)

    def answer(output: Path, row: str, *launcher: str) -> tuple[int, Path]:
        arguments = tiny_run.settings(
            records, output, variant=row, constraint="none" if row == "sasrec" else "fresh", evaluation__users=5,
            evaluation__settings="[sequential,category_positive]", trainer__precision="32-true",
        )  # fmt: skip
        status = tiny_run.start(arguments, log, launcher or ("-m", "ctrlrec")).wait(timeout=300)
        return status, output / "evaluate"

    assert answer(tmp_path / "one", "v2")[0] == 0, log.read_text()
    shutil.copytree(tmp_path / "one", tmp_path / "two", ignore=shutil.ignore_patterns("evaluate"))
    status, made = answer(tmp_path / "two", "v2", *_TWO, str(script))
    assert status == 1
    assert "error: the second process has no answer" in log.read_text()
    assert "error: process 0 stopped: process 1 failed and says why" in log.read_text()
    assert not list(tiny_run.only(made, "*.partial").glob("answered/*"))
    assert answer(tmp_path / "one", "sasrec")[0] == 0, log.read_text()
    for row in ("v2", "sasrec"):
        status, made = answer(tmp_path / "two", row, *_TWO, "-m", "ctrlrec")
        assert status == 0, log.read_text()
        name = f"*-{row}*-????????????"
        expected, found = (tiny_run.only(tmp_path / folder / "evaluate", name) for folder in ("one", "two"))
        for file in ("predictions.jsonl", "metrics.json"):
            assert (found / file).read_bytes() == (expected / file).read_bytes(), (row, file)
        assert len(list((found / "logs").glob("attempt_*"))) == 1  # one process writes, and a failed one no metrics
        assert len({line["response"] for line in tiny_run.read_lines(found / "predictions.jsonl")}) >= 5
        assert json.loads((found / "provenance.json").read_text())["processes"] == 2


# The command line, saying how much of its first matrix a process keeps.
_TELLS_ITS_PART = """
import sys
from ctrlrec.runtime import processes
from ctrlrec.__main__ import main

shard = processes.shard_frozen

def shard_frozen(model, layers, config):
    matrix = lambda: next(tensor for name, tensor in model.named_parameters() if "up_proj" in name)
    whole = matrix().numel()
    shard(model, layers, config)
    print(f"process {processes.rank()} keeps {matrix().to_local().numel() / whole}", flush=True)

processes.shard_frozen = shard_frozen
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_sharded_model_learns_what_a_whole_one_learns(records: Path, tmp_path: Path, checkpointing: bool) -> None:
    """Of 9 samples in micro-batches of 2, one process makes three passes and the other two."""
    titles = [row["title"] for row in tiny_run.read_lines(records / "items.jsonl")]
    tokenizer = train_tokenizer([*titles, "A user likes these: 1. 2. 3."], 400)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    script = tmp_path / "tells_its_part.py"
    script.write_text(_TELLS_ITS_PART)
    made, logs = [], []
    for name, launcher, strategy, less in (("one", (), "auto", False), ("two", _TWO, "fsdp", checkpointing)):
        arguments = tiny_run.settings(
            records, tmp_path / name, stage="sl", variant="v2", model="hf", model__path=tmp_path / "llama",
            model__dtype="float32", model__max_length=1500, model__max_response_length=300,
            instructions__validation_size=5, teacher__options__dropout=0.0, sl__batch_size=9, sl__micro_batch_size=2,
            sl__lora_rank=4, trainer__precision="32-true", trainer__matmul_precision="highest",
            trainer__strategy=strategy, trainer__activation_checkpointing=less,
        )  # fmt: skip
        dropped = ("model.hidden_size", "model.layers", "model.heads", "model.vocabulary")
        arguments = [argument for argument in arguments if not argument.startswith(dropped)]
        log = tmp_path / f"{name}.log"
        process = tiny_run.start(arguments, log, (*launcher, str(script)))
        assert process.wait(timeout=300) == 0, log.read_text()
        made.append(tiny_run.only(tmp_path / name / "sl"))
        logs.append(log.read_text())
    one, two = made
    assert "keeps" not in logs[0]
    assert "process 0 keeps 0.5" in logs[1] and "process 1 keeps 0.5" in logs[1]
    expected, found = (load_file(result / "adapter" / "adapter_model.safetensors") for result in made)
    assert expected.keys() == found.keys()
    assert any(values.abs().max() > 0 for name, values in expected.items() if "lora_B" in name)
    for tensor, values in expected.items():
        assert torch.allclose(values, found[tensor], rtol=1e-3, atol=1e-4), tensor
    for column in ("train/loss", "train/gradient_norm", "validation/loss"):
        assert _logged(two, column) == pytest.approx(_logged(one, column), rel=1e-4), column


@pytest.mark.slow
def test_all_processes_stop_where_a_number_is_not_finite(records: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = tiny_run.settings(records, tmp_path / "runs", stage="teacher", teacher__learning_rate=1e30)
    assert tiny_run.start(arguments, log, (*_TWO, "-m", "ctrlrec")).wait(timeout=120) == 1
    assert "is not finite, nothing was trained on it" in log.read_text()
    assert (tiny_run.only(tmp_path / "runs" / "teacher", "*.partial") / "not_finite.safetensors").is_file()


@pytest.mark.slow
def test_a_launcher_told_to_stop_goes_on_where_it_was(records: Path, tmp_path: Path) -> None:
    """SIGTERM to the launcher in SL, Ctrl-C in RL; the same command then ends as an undisturbed one."""

    def start(name: str, log: str) -> subprocess.Popen:
        arguments = tiny_run.settings(
            records, tmp_path / name, stage="rl", variant="full", sl__max_steps=12, sl__validations=6, rl__iterations=8
        )
        return tiny_run.start(arguments, tmp_path / log, (*_TWO, "-m", "ctrlrec"))

    assert start("whole", "whole.log").wait(timeout=300) == 0, (tmp_path / "whole.log").read_text()
    for stage, sign in (("sl", signal.SIGTERM), ("rl", signal.SIGINT)):
        process = start("stopped", f"{stage}.log")
        while not list((tmp_path / "stopped" / stage).glob("*.partial/checkpoints/last.ckpt")):
            assert process.poll() is None, (tmp_path / f"{stage}.log").read_text()
            time.sleep(0.05)
        process.send_signal(sign)
        assert process.wait(timeout=60) != 0
        assert list((tmp_path / "stopped" / stage).glob("*.partial"))
    assert start("stopped", "last.log").wait(timeout=300) == 0, (tmp_path / "last.log").read_text()
    assert " rl           resume" in (tmp_path / "last.log").read_text()
    whole, stopped = (tiny_run.only(tmp_path / name / "rl") for name in ("whole", "stopped"))
    for path in (
        "rollouts.jsonl",
        "adapter/actor/adapter_model.safetensors",
        "adapter/critic/adapter_model.safetensors",
    ):
        assert (stopped / path).read_bytes() == (whole / path).read_bytes(), path
