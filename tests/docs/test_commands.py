"""Every command that a reader is told to type composes and validates, and every make target exists."""

import importlib
import re
import shlex
import tomllib
from itertools import product
from pathlib import Path

import hydra
import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from ctrlrec.app.commands import COMMANDS
from ctrlrec.config.choices import PLUGINS
from ctrlrec.config.compose import compose
from ctrlrec.config.files import conf_directory
from ctrlrec.config.schema import known_keys
from ctrlrec.reporting.paper import TABLES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *(page for name in ("docs", "experiments", "models") for page in sorted((ROOT / name).rglob("*.md"))),
]


def commands(pattern: str) -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```(?:bash|sh)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            found += [line.strip() for line in block.splitlines() if re.match(pattern, line.strip())]
    return sorted(set(found))


def runs(command: str) -> list[list[str]]:
    """The override lists that a command stands for: one, or every combination of a multirun and its experiment."""
    words = [word for word in shlex.split(command)[3:] if not word.startswith("-")]
    if "-m" in command.split():
        plain = [word for word in words if "," not in word]
        with initialize_config_dir(str(conf_directory()), version_base="1.3"):
            params = hydra.compose("config", plain, return_hydra_config=True).hydra.sweeper.params or {}
        given = {word.split("=", 1)[0] for word in words}
        words += [f"{key}={value}" for key, value in params.items() if key not in given]
    choices = []
    for word in words:
        key, value = word.split("=", 1)
        parts = value.split(",") if "-m" in command.split() and not value.startswith("[") else [value]
        choices.append([f"{key}={part}" for part in parts])
    return [list(combination) for combination in product(*choices)]


@pytest.mark.parametrize("command", commands(r"python -m ctrlrec(\s|$)"))
def test_command_composes(command: str) -> None:
    for overrides in runs(command):
        compose(*overrides)


@pytest.mark.parametrize("command", commands(r"ctrlrec [a-z]+(\s|$)"))
def test_command_beside_runs_has_these_options(command: str) -> None:
    word, *words = shlex.split(command)[1:]
    if word == "plan":  # whose words are those of a run
        compose(*(given for given in words if not given.startswith("card=")))
        return
    module = importlib.import_module(COMMANDS[word].split(":")[0])
    module.parser().parse_args(words)


def test_a_table_of_the_paper_is_one_sweep_over_its_rows() -> None:
    rows = {number: [row[-1] for row in runs(f"python -m ctrlrec -m experiment=table{number}")] for number in TABLES}
    assert rows[2] == ["variant=sasrec", *rows[3]]
    assert rows[3] == [f"variant={name}" for name in ("zero_shot", "instructrec", "palr", "v1", "v2", "v3", "full")]
    assert rows[3] == rows[4] == rows[5]
    page = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    assert rows[8] == [f"variant={name}" for name in ("v2", "full", "v2_blend", "full_blend")]
    assert [number for number in range(1, 9) if f"experiment=table{number}\n" not in page] == []


@pytest.mark.parametrize("command", commands(r"make "))
def test_make_target_exists(command: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert command.split()[1] in targets


def test_the_site_is_built_with_the_packages_of_its_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [package for package in extras["docs"] if f"'{package}'" not in makefile] == []


def test_readme_names_the_two_commands_of_a_newcomer() -> None:
    assert {"make demo", "make test"} <= set(commands(r"make "))


def test_the_row_that_the_documentation_adds_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "training.md").read_text(encoding="utf-8"), re.DOTALL)
    (name,) = re.findall(r"^# conf/(variant/\w+)\.yaml$", text, re.MULTILINE)
    (tmp_path / "conf/variant").mkdir(parents=True)
    (tmp_path / "conf" / f"{name}.yaml").write_text(text)
    monkeypatch.setenv(PLUGINS, str(tmp_path))
    full, own = compose("variant=full"), compose(f"variant={Path(name).name}")
    changed = {key for key in known_keys() if OmegaConf.select(own, key) != OmegaConf.select(full, key)}
    leaves = {key for key in changed if not any(other.startswith(f"{key}.") for other in changed)}
    said = {"variant.name", "variant.description", "variant.differs", "variant.table.compared_with"}
    assert leaves == {*said, *own.variant.differs}
    assert own.rl.kl_coefficient == 0
