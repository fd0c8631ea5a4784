"""Every command that a reader is told to type composes and validates, and every make target exists."""

import re
import shlex
from itertools import product
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from ctrlrec.__main__ import conf_directory
from ctrlrec.config import validate

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "experiments").rglob("*.md"))]


def commands(pattern: str) -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:bash|sh)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            found += [line.strip() for line in block.splitlines() if re.match(pattern, line.strip())]
    return sorted(set(found))


def runs(command: str) -> list[list[str]]:
    """The override lists that a command stands for: one, or every combination of a multirun."""
    words = [word for word in shlex.split(command)[3:] if not word.startswith("-")]
    choices = []
    for word in words:
        key, value = word.split("=", 1)
        parts = value.split(",") if "-m" in command.split() and not value.startswith("[") else [value]
        choices.append([f"{key}={part}" for part in parts])
    return [list(combination) for combination in product(*choices)]


@pytest.mark.parametrize("command", commands(r"python -m ctrlrec(\s|$)"))
def test_command_composes(command: str) -> None:
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        for overrides in runs(command):
            validate(compose("config", overrides))


@pytest.mark.parametrize("command", commands(r"make "))
def test_make_target_exists(command: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert command.split()[1] in targets


def test_readme_names_the_two_commands_of_a_newcomer() -> None:
    assert {"make demo", "make test"} <= set(commands(r"make "))
