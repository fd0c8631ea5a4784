"""The sweep of docs/wandb.md, expanded as an agent of W&B expands it, without an account."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from ctrlrec.config.compose import compose
from ctrlrec.config.files import conf_directory
from ctrlrec.pipeline.plan import plan

ROOT = Path(__file__).resolve().parents[2]
(TEXT,) = re.findall(r"```yaml\n(name: .*?)```", (ROOT / "docs/wandb.md").read_text(encoding="utf-8"), re.DOTALL)
SWEEP = yaml.safe_load(TEXT)


def trials() -> list[dict[str, dict[str, Any]]]:
    """Arguments as a server hands them to an agent: every listed value, the ends of every range."""
    choices = [
        [(name, value) for value in wanted.get("values", [wanted.get("value", wanted.get("min")), wanted.get("max")])
         if value is not None]
        for name, wanted in SWEEP["parameters"].items()
    ]  # fmt: skip
    return [{name: {"value": value} for name, value in chosen} for chosen in product(*choices)]


def words_of(arguments: dict[str, dict[str, Any]]) -> list[str]:
    """The command line that an agent starts, macros replaced as in wandb_agent.py."""
    macros = {"env": ["/usr/bin/env"], **create_sweep_command_args({"args": arguments})}
    line: list[str] = []
    for word in create_sweep_command(SWEEP["command"]):
        macro = re.fullmatch(r"\$\{(\w+)\}", word)
        line += macros[macro[1]] if macro else [word]
    return line


def test_trials_compose_share_what_they_can_and_write_nowhere_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [words_of(arguments) for arguments in trials()]
    assert len(lines) == 6
    folders: dict[str, set[Path]] = {}
    for line in lines:
        assert line[:4] == ["/usr/bin/env", "python", "-m", "ctrlrec"]
        config = compose(*line[4:])
        assert config.variant.name == "full" and config.rl.validate_every == 4
        for name, step in plan(config).items():
            folders.setdefault(name, set()).add(step.directory)
    assert {name: len(found) for name, found in folders.items()} == {
        "data": 1, "teacher": 1, "instructions": 1, "sl": 1, "rl": 6,
    }  # fmt: skip


def test_two_trials_that_start_at_once_log_into_two_folders() -> None:
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        words = words_of(trials()[0])[4:]
        places = {str(hydra_compose("config", words, return_hydra_config=True).hydra.run.dir) for _ in range(2)}
    assert len(places) == 2


def test_what_the_sweep_optimises_is_logged() -> None:
    from ctrlrec.runtime.tracking import BEST, VALIDATED

    assert SWEEP["metric"] == {"name": BEST, "goal": "maximize"}
    assert f'"{VALIDATED}"' in (ROOT / "ctrlrec/rl/train.py").read_text(encoding="utf-8")
