"""Users without a name, a home, or a home that can be written to."""

import getpass
import os
from pathlib import Path

import pytest

from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import user

FOLDERS = ("HF_HOME", "MPLCONFIGDIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "TRITON_CACHE_DIR")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores what is set, and begins without the variables in question."""
    for name in (*FOLDERS, "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", os.environ.get("HOME", "/"))


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that no list of users holds, as in a container."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that cannot be written to, also for root."""
    folder, access = tmp_path / "readonly", os.access
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    return folder


def test_a_user_without_a_name_and_a_home_gets_both(
    monkeypatch: pytest.MonkeyPatch, nobody: None, tmp_path: Path
) -> None:
    monkeypatch.delenv("HOME")
    with pytest.raises(KeyError):
        getpass.getuser()
    user.settle(str(tmp_path / "cache"))
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert Path.home() == tmp_path / "cache" / "home"
    assert all(Path(os.environ[name]).parent == tmp_path / "cache" for name in FOLDERS)


def test_a_home_that_can_be_written_to_stays_in_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    before = dict(os.environ)
    user.settle(str(tmp_path / "cache"))
    assert dict(os.environ) == before and not (tmp_path / "cache").exists()


def test_what_the_environment_says_and_a_read_only_home_holds_is_kept(
    monkeypatch: pytest.MonkeyPatch, read_only: Path, tmp_path: Path
) -> None:
    (read_only / ".cache" / "huggingface").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(read_only))
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    user.settle(str(tmp_path / "cache"))
    assert os.environ["HOME"] == str(read_only) and os.environ["MPLCONFIGDIR"] == "mine"
    assert "HF_HOME" not in os.environ
    assert os.environ["WANDB_CONFIG_DIR"] == str(tmp_path / "cache" / "wandb")


def test_a_cache_that_cannot_be_is_an_error_that_names_its_key(
    monkeypatch: pytest.MonkeyPatch, nobody: None, read_only: Path, tmp_path: Path
) -> None:
    monkeypatch.delenv("HOME")
    (tmp_path / "file").touch()
    for cache, why in (
        ("~/.cache/ctrlrec", "no home folder"),
        (str(tmp_path / "file" / "cache"), "cannot be created"),
        (str(read_only), "cannot be written to"),
    ):
        for ask in (user.cache_folder, user.settle):
            with pytest.raises(CtrlRecError) as refusal:
                ask(cache)
            assert str(refusal.value).startswith(f"cache={cache}: ") and why in str(refusal.value)
            assert "CTRLREC_CACHE" in str(refusal.value)
