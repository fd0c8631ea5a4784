"""Several processes on one output folder: each result is made once, whole, by a process that is alive."""

import re
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import killing
import pytest
import tiny_run

from ctrlrec.pipeline.run import STAGES
from ctrlrec.runtime.files import check_files


def happened(log: Path) -> list[tuple[str, str]]:
    return re.findall(r"^[\d:]{8}  (\w+) +(run|resume|reuse|wait) ", log.read_text(), re.MULTILINE)


class Reader(threading.Thread):
    """Looks at every result as soon as it has its name, again and again: none may ever be a half."""

    def __init__(self, output: Path):
        super().__init__(daemon=True)
        self.output, self.looked, self.faults = output, 0, []
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.01):
            for directory in (found for stage in STAGES for found in self.output.glob(f"{stage}/*-????????????")):
                try:
                    assert (directory / "files.json").is_file() and (directory / "provenance.json").is_file()
                    check_files(directory)
                    self.looked += 1
                except Exception as fault:
                    self.faults.append(f"{directory}: {fault}")

    def finish(self) -> None:
        self.stopped.set()
        self.join()
        assert self.looked and not self.faults, self.faults[:3]


def test_a_process_that_waits_takes_over_from_one_that_dies(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data", "teacher", "instructions")
    arguments = ["stage=sl", *sweep.arguments(output)]
    first = tiny_run.start(arguments, tmp_path / "first")
    second = None
    try:
        deadline = time.monotonic() + 240
        while not list(output.glob("sl/*.partial/stage.json")):
            assert first.poll() is None and time.monotonic() < deadline, (tmp_path / "first").read_text()
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)  # holds its lock for as long as the other needs to start
        second = tiny_run.start(arguments, tmp_path / "second")
        deadline = time.monotonic() + 240
        while ("sl", "wait") not in happened(tmp_path / "second"):
            assert second.poll() is None and time.monotonic() < deadline, (tmp_path / "second").read_text()
            time.sleep(0.1)
        first.kill()
        assert second.wait(timeout=400) == 0
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.wait()
    assert happened(tmp_path / "second")[-2:] == [("sl", "wait"), ("sl", "resume")]
    assert not [name for name in killing.differing(output, sweep.output) if name.startswith("sl/")]


@pytest.mark.slow
def test_three_overlapping_sweeps_make_each_result_once(sweep, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    output.mkdir()
    asked = (["variant=v2"], ["variant=full"], ["-m", "variant=v2,full"])
    reader = Reader(output)
    reader.start()
    started = [
        tiny_run.start([*what, *sweep.arguments(output)], tmp_path / f"log{number}")
        for number, what in enumerate(asked)
    ]
    try:
        assert [process.wait(timeout=900) for process in started] == [0, 0, 0]
    finally:
        for process in started:
            process.kill()
            process.wait()
    reader.finish()
    met = Counter(event for number in range(3) for event in happened(tmp_path / f"log{number}"))
    made = {stage: met[stage, "run"] for stage in killing.STAGES}
    assert made == {"data": 1, "teacher": 1, "instructions": 1, "sl": 1, "rl": 1, "evaluate": 2}
    assert sum(count for (_, what), count in met.items() if what == "wait") >= 1
    assert not [name for name in killing.differing(output, sweep.output) if "tables/" not in name]
