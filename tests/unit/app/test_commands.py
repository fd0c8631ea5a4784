import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import ROOT, call

from ctrlrec.app.commands import COMMANDS, command_of
from ctrlrec.app.recommend import parser
from ctrlrec.app.wishes import Wish
from ctrlrec.errors import CtrlRecError


@pytest.mark.parametrize("word", COMMANDS)
def test_every_command_can_be_called(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ctrlrec", word, "--help"])
    command = command_of(sys.argv[1:])
    assert command is not None and sys.argv == [f"ctrlrec {word}", "--help"]
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 0


@pytest.mark.parametrize("words", [[], ["stage=rl"], ["-m", "variant=v1,v2"], ["--help"], ["sl.learning_rate"]])
def test_all_else_is_a_run(words: list[str]) -> None:
    assert command_of(words) is None


def test_a_wrong_command_is_named_with_the_nearest() -> None:
    with pytest.raises(CtrlRecError, match="no command 'recomend'; did you mean 'recommend'"):
        command_of(["recomend"])


def test_the_console_command_is_the_entry_point() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, name = scripts["ctrlrec"].split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_a_run_still_takes_overrides_and_a_command_its_options(tmp_path: Path) -> None:
    done = call(tmp_path, "stage=rl", "variant=full", "--cfg", "job")
    assert done.returncode == 0 and "stage:\n  name: rl" in done.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "ctrlrec", "recommend", "--run", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert wrong.returncode == 1
    assert wrong.stderr.startswith(f"error: {tmp_path}: no finished result and no released model there")


def test_wishes_keep_the_order_of_the_command_line() -> None:
    words = ["--none", "Horror", "--more", "Comedy", "--at-most", "Drama 30%", "--none", "War", "-k", "5"]
    read = parser().parse_args(["--history", "Fargo (1996)", "Twister (1996)", *words])
    assert read.history == ["Fargo (1996)", "Twister (1996)"] and read.k == 5
    assert read.wishes == [
        Wish("negative", "Horror"), Wish("positive", "Comedy"), Wish("at_most", "Drama", 30), Wish("negative", "War"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at-most", "Drama"], "--at-most 'Drama 30%'"),
        (["--history", "A", "--user", "1"], "not allowed with"),
        (["--run", "a", "--model", "b"], "not allowed with"),
        (["-k", "many"], "invalid int value"),
        (["--constraint", "nothing"], "none"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_explained(words: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_importing_the_package_waits_for_nothing_heavy() -> None:
    code = (
        "import sys, ctrlrec; assert not {'torch', 'transformers', 'hydra', 'numpy'} & sys.modules.keys(); "
        "from ctrlrec import Recommender, Wish; assert Wish('positive', 'Drama').percent is None; "
        "assert Recommender.__name__ in ctrlrec.__all__; "
        "assert all(hasattr(ctrlrec, name) for name in ctrlrec.__all__); assert not hasattr(ctrlrec, 'Recomender')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
