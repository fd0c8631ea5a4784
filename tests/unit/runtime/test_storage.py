"""Full disks, read-only folders, results cut off or altered, halves of files: one line, and nothing half left."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import files
from ctrlrec.runtime.faults import explained, storage_fault
from ctrlrec.runtime.trainer import WholeCheckpoints


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB; without the right to mount one, none of this is tested."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


WRITERS = {
    "text": lambda path: files.write_text(path, "x" * (4 << 20)),
    "rows": lambda path: files.write_jsonl(path, ({"text": "x" * 1000} for _ in range(4000))),
    "checkpoint": lambda path: WholeCheckpoints().save_checkpoint({"weights": torch.zeros(1 << 20)}, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_the_old_file(small_disk: Path, writer: str) -> None:
    path = small_disk / "file"
    path.write_text("old")
    with pytest.raises(CtrlRecError, match=r"No space left on device; make room") as raised, explained(small_disk):
        WRITERS[writer](path)
    assert "\n" not in str(raised.value)
    assert path.read_text() == "old"
    assert [entry.name for entry in small_disk.iterdir()] == ["file"]  # not even a temporary file


def test_a_name_that_is_too_long_needs_no_room(tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match=r"File name too long; shorten dataset\.name"), explained(tmp_path):
        files.write_text(tmp_path / ("x" * 300), "")


def test_a_full_disk_under_safetensors_is_one_line(small_disk: Path) -> None:
    with pytest.raises(CtrlRecError, match="No space left on device"), explained(small_disk):
        save_file({"weights": torch.zeros(1 << 20)}, small_disk / "file")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str) -> None:
    """The same without a disk of one's own: the system refuses at the last moment."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CtrlRecError, match="No space left on device"), explained(tmp_path):
        WRITERS[writer](path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and path.read_text() == "old"


def test_many_may_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = [str(number) * (1 << 18) for number in range(8)]
    together = threading.Barrier(len(texts))

    def write(text: str) -> None:
        together.wait(30)
        for _ in range(6):
            files.write_text(path, text)

    with ThreadPoolExecutor(len(texts)) as pool:
        list(pool.map(write, texts))
    assert path.read_text() in texts
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_writer_does_not_wait_for_another(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def rows() -> Iterator[dict[str, str]]:
        files.write_text(path, "inner")
        assert path.read_text() == "inner"
        yield {"row": "outer"}

    files.write_jsonl(path, rows())
    assert files.read_jsonl(path) == [{"row": "outer"}]
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_writer_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    half = (
        "import os, signal, sys; from pathlib import Path; from ctrlrec.runtime import files\n"
        "with files._whole(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half of a longer text'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", half, str(path)])
    assert len(list(tmp_path.iterdir())) == 1 and not path.exists()
    files.write_text(path, "whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and path.read_text() == "whole"


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    assert storage_fault(ValueError("(os errors)")) is None
    with pytest.raises(ZeroDivisionError), explained(tmp_path):
        _ = 1 / 0
    with pytest.raises(CtrlRecError, match=r"^as it was$"), explained(tmp_path):
        raise CtrlRecError("as it was")


@pytest.fixture
def result(tmp_path: Path) -> Path:
    directory = tmp_path / "result"
    (directory / "adapter").mkdir(parents=True)
    (directory / "logs").mkdir()
    (directory / "metrics.json").write_text('{"HR@10": 0.123}')
    (directory / "adapter" / "weights").write_bytes(bytes(1000))
    (directory / "logs" / "metrics.csv").write_text("step")
    files.record_files(directory)
    return directory


def test_a_result_is_known_by_its_files(result: Path, tmp_path: Path) -> None:
    assert set(json.loads((result / "files.json").read_text())) == {"metrics.json", "adapter/weights"}
    files.check_files(result)
    (result / "logs" / "metrics.csv").write_text("step, and more")  # logs may grow
    (result / "notes.txt").write_text("mine")
    files.check_files(result)
    shutil.copytree(result, tmp_path / "copy")
    files.check_files(tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.json", '{"HR@10": 0.923}', "altered since it was made"),
        ("metrics.json", '{"HR@10": 0.12', "14 bytes instead of 16"),
        ("metrics.json", None, "missing"),
        ("adapter/weights", bytes(999) + b"\1", "altered since it was made"),
        ("files.json", "[1]", "not a list of files"),
        ("files.json", "{", "not a list of files"),
    ],
)
def test_a_result_that_is_not_what_it_was_is_refused(
    result: Path, name: str, content: str | bytes | None, said: str
) -> None:
    files.check_files(result)
    if content is None:
        (result / name).unlink()
    else:
        (result / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CtrlRecError, match=rf"{name}: .*{said}.*delete .* and run again") as raised:
        files.check_files(result)
    assert "\n" not in str(raised.value)


def test_a_checkpoint_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    for value in (1.0, 2.0):
        WholeCheckpoints().save_checkpoint({"weights": torch.full((3,), value)}, path)
        assert torch.load(path, weights_only=True)["weights"].tolist() == [value] * 3
    assert [entry.name for entry in path.parent.iterdir()] == ["last.ckpt"]
