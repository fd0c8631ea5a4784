"""The page on TRL and verl: its script trains, its commands and file paths are real."""

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run
from datasets import load_dataset

from ctrlrec import export
from ctrlrec.rewards import verl

pytestmark = pytest.mark.slow

PAGE = (tiny_run.ROOT / "docs" / "rewards_in_trl_and_verl.md").read_text(encoding="utf-8")
SMALLER = {
    "max_steps=200": "max_steps=1",
    "max_completion_length=512": "max_completion_length=16",
    "gradient_accumulation_steps=8": "gradient_accumulation_steps=1",
    'report_to="none"': 'report_to="none", logging_steps=1, use_cpu=True, bf16=False',
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run up to SL, its prompts and its whole model, by the commands of the page."""
    folder = tmp_path_factory.mktemp("elsewhere")
    tiny_run.write_records(folder / "records")
    (block,) = re.findall(r"```bash\n(python -m ctrlrec variant=v2.*?)```", PAGE, re.DOTALL)
    first, *others = block.splitlines()
    changed = tiny_run.settings(folder / "records", folder / "runs", sl__max_steps=2, sl__validations=1)
    tiny_run.run([*first.split()[3:], *changed], folder / "log")
    for command in others:
        for stage in ("instructions", "sl"):
            command = command.replace(f"runs/{stage}/NAME", str(tiny_run.only(folder / "runs" / stage)))
        done = subprocess.run(
            [sys.executable, *command.split()[1:]], cwd=folder, env=tiny_run.environment(), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return folder


def test_the_script_trains(runs: Path) -> None:
    (script,) = re.findall(r'```python title="grpo\.py"\n(.*?)```', PAGE, re.DOTALL)
    assert len([line for line in script.splitlines() if line]) <= 30
    for words, smaller in SMALLER.items():
        assert script.count(words) == 1
        script = script.replace(words, smaller)
    (runs / "grpo.py").write_text(script)
    (command,) = re.findall(r"^python (grpo\.py .*)$", PAGE, re.M)
    command = command.replace("runs/instructions/NAME", str(tiny_run.only(runs / "runs" / "instructions")))
    done = subprocess.run(
        [sys.executable, *command.split()], cwd=runs, env=tiny_run.environment(), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rewards/ctrlrec_item/mean" in done.stdout and "rewards/ctrlrec_list/mean" in done.stdout
    assert (runs / "grpo/adapter/adapter_model.safetensors").exists()


def test_the_columns_are_those_of_the_page(runs: Path, tmp_path: Path) -> None:
    columns = load_dataset(str(runs / "prompts"), cache_dir=str(tmp_path))["train"].column_names
    (table,) = re.findall(r"\| column \|.*?\n\n", PAGE, re.DOTALL)
    assert re.findall(r"`(\w+)`(?=[,`\w ]*\|)", re.sub(r"\|[^|\n]*\|\n", "|\n", table)) == columns
    assert columns == export._SCHEMA.names


def test_verl_finds_what_the_commands_name(runs: Path, tmp_path: Path) -> None:
    keys = dict(re.findall(r"(reward\.[\w.]+)=(\S+)", PAGE))
    assert keys["reward.custom_reward_function.path"] == keys["reward.reward_manager.module.path"] == "$PLUGIN"
    spec = importlib.util.spec_from_file_location("custom_module", verl.__file__)  # as verl loads it
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert inspect.isclass(getattr(module, keys["reward.reward_manager.name"]))
    function = getattr(module, keys["reward.custom_reward_function.name"])
    row = load_dataset(str(runs / "prompts"), cache_dir=str(tmp_path))["train"][0]
    parts = function(
        data_source=row["data_source"], solution_str="1. No Such Film",
        ground_truth=row["reward_model"]["ground_truth"], extra_info=row["extra_info"],
    )  # fmt: skip
    (said,) = re.findall(r"the same keys for every task: (.*?)\.", PAGE, re.DOTALL)
    assert list(parts) == ["score", *re.findall(r"`(\w+)`", said)]
    assert parts["illegal"] == 1.0
