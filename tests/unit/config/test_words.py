"""Text on the command line is taken as it is written, or refused with the words to type."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ctrlrec.config.choices import PLUGINS
from ctrlrec.config.compose import compose
from ctrlrec.config.schema import leaves
from ctrlrec.config.words import literal, quoted
from ctrlrec.errors import CtrlRecError

NAMES = (
    "2024_06_01", "007", "1e3", "0x10", ".5", "1_000", "inf", "NaN", "true", "on", "my runs", " runs", "läufe", "日本",
    "lr=0.1", "x:y", "it's", "100%", "#1", "{a}", "[a]", "(a)", "a\\b", "a\\", "\\'", '"', "'", "a'b\\", "./~x", "-",
    "a;b", "$HOME", "choice(a)", "/data/2024", "../runs",
)  # fmt: skip
PATHS = [key for key, entry in leaves() if "path" in entry.metadata]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_is_called_as_it_is_written(name: str) -> None:
    config = compose(f"output={name}", f"dataset.path={name}")
    assert (config.output, config.dataset.path) == (name, name)


def test_names_of_digits_keep_their_spelling() -> None:
    config = compose("dataset.name=007", "model.name=1e3", "logger.project=2024_06_01", "model.revision=0123456")
    assert (config.dataset.name, config.model.name) == ("007", "1e3")
    assert (config.logger.project, config.model.revision) == ("2024_06_01", "0123456")


@given(st.text(st.characters(blacklist_characters="$", blacklist_categories=["Cs", "Cc"])))
def test_quotes_hold_any_text(text: str) -> None:
    assert OverridesParser.create().parse_override(f"output={quoted(text)}").value() == text


def test_what_hydra_means_by_a_value_stays() -> None:
    assert compose("dataset.path=null").dataset.path is None
    assert compose('output="a,b"').output == "a,b"
    assert compose("output='1e3'").output == "1e3"
    assert compose("output=runs/${seed}", "seed=3").output == "runs/3"


def test_words_of_a_sweep() -> None:
    words = ["output=2024_06_01,runs", "output=choice(1,2)", "output='a,b',c", "output=it's", "seed=0,1", "variant=v1"]
    assert literal(words, sweeps=True) == [
        "output='2024_06_01',runs", "output=choice(1,2)", "output='a,b',c", "output='it\\'s'", "seed=0,1", "variant=v1",
    ]  # fmt: skip
    assert literal(["output=a,b", "--config-dir=1e3", "-m"]) == ["output=a,b", "--config-dir=1e3", "-m"]


def test_every_path_may_begin_with_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert set(PATHS) == {
        "output", "dataset.path", "model.path", "instructions.chat_path", "general.mmlu", "general.gsm8k",
    }  # fmt: skip
    config = compose("model=hf", "variant=v2", *(f"{key}=~/a b" for key in PATHS))
    assert {OmegaConf.select(config, key) for key in PATHS} == {str(tmp_path / "a b")}  # type: ignore[arg-type]
    with pytest.raises(
        CtrlRecError, match=r"dataset\.path=~no-such-user/x: ~no-such-user is not a home folder.*\./~no-such-user/x"
    ):
        compose("dataset.path=~no-such-user/x")


@pytest.mark.parametrize(("name", "value"), [("2024_06_01", "20240601"), ("1e3", "1000.0"), ("007", "7")])
def test_a_number_in_a_file_that_should_be_text_is_refused(
    name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf/dataset").mkdir(parents=True)
    file = tmp_path / "conf/dataset/mine.yaml"
    file.write_text(f"defaults: [records, _self_]\nname: {name}\n")
    monkeypatch.setenv(PLUGINS, str(tmp_path))
    with pytest.raises(CtrlRecError, match=f"dataset.name: expected text, .* {value}; .*quotes"):
        compose("dataset=mine")
    file.write_text(f'defaults: [records, _self_]\nname: "{name}"\n')
    assert compose("dataset=mine").dataset.name == name
