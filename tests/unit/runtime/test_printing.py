"""Output that cannot be written, or not as it is, ends nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.printing import command

ROOT = Path(__file__).resolve().parents[3]

# A table as a run prints it: rich, logging and print, more than a pipe's buffer holds.
PRINTS = """
import logging, os, sys
from rich.console import Console
from ctrlrec.reporting.render import Cell, Grid, terminal
from ctrlrec.runtime.printing import guard_output

guard_output()
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
grid = Grid("Kürze ±", ("Setting",), (), ("HR@10 ↑",), ((("Amélie 千",), (Cell("1.0", "", "±2.0"),)),) * 2000)
for _ in range(3):
    Console(width=None if sys.stdout.isatty() else 120).print(terminal(grid))
    logging.info("Amélie ±")
    print("Amélie", "\\udce4", flush=True)
print("Amélie", file=sys.stderr)
with open("kept", "w", encoding="utf-8") as kept:
    kept.write("whole")
"""


def start(folder: Path, encoding: str, **options: object) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
    return subprocess.Popen([sys.executable, "-c", PRINTS], cwd=folder, env=environment, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "ascii:strict"])
def test_signs_that_an_encoding_lacks_are_replaced(tmp_path: Path, encoding: str) -> None:
    process = start(tmp_path, encoding, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=120)
    name = encoding.partition(":")[0]
    assert process.returncode == 0, err
    printed = out.decode(name)
    assert printed.count("Amélie".encode(name, "replace").decode(name)) == 3 * 2002
    assert printed.count("HR@10") == 3
    assert err.decode(name).strip() == "Amélie".encode(name, "backslashreplace").decode(name)
    assert (tmp_path / "kept").read_text() == "whole"


def test_a_reader_that_leaves_ends_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, "utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert process.stderr.read().decode().strip() == "Amélie"
    assert (tmp_path / "kept").read_text() == "whole"


@pytest.mark.parametrize("closed", ["1", "2", "1 2", "0 1 2"])
def test_streams_closed_at_the_start_end_nothing(tmp_path: Path, closed: str) -> None:
    """What is printed must not land in a file that was opened under the number of a closed stream."""
    command = f"exec {' '.join(f'{number}>&-' for number in closed.split())}; exec {sys.executable} prints.py"
    (tmp_path / "prints.py").write_text(PRINTS, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, stdout=out, stderr=out)
    assert done.returncode == 0, (tmp_path / "out").read_text()
    assert "Traceback" not in (tmp_path / "out").read_text()
    assert (tmp_path / "kept").read_text() == "whole"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_on_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(tmp_path, "utf-8", stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0 and err.decode().strip() == "Amélie"
    assert (tmp_path / "kept").read_text() == "whole"


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [(None, 0, ""), (CtrlRecError("a: expected b"), 1, "error: a: expected b\n"), (KeyboardInterrupt(), 130, "")],
    ids=["done", "error", "ctrl-c"],
)
def test_a_command_ends_with_a_status_and_one_line(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, fault: BaseException | None, status: int, said: str
) -> None:
    for stream in ("stdout", "stderr"):  # guarded by the command, as they are after the test
        monkeypatch.setattr(sys, stream, getattr(sys, stream))

    @command
    def main(words: list[str]) -> None:
        print(*words)
        if fault is not None:
            raise fault

    assert main(["a", "b"]) == status
    assert capsys.readouterr() == ("a b\n", said)


def test_a_command_ends_with_the_status_that_its_body_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    assert command(lambda: 1)() == 1


def test_a_command_lets_a_fault_of_its_code_through(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, getattr(sys, stream))

    @command
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()
