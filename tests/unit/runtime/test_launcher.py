"""Variables of launchers: those that started this process, and those that did not."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import hydra
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from pytorch_lightning.accelerators import CUDAAccelerator
from torch import distributed

from ctrlrec.config.compose import compose
from ctrlrec.config.files import conf_directory
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import launcher
from ctrlrec.runtime.trainer import trainer

STEP = {"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "2"}
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")) or name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
            monkeypatch.delenv(name)


def free_port() -> str:
    """Tests run side by side: each needs a port of its own."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])


def given(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "stray",
    [
        {},
        {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29555"},
        {"RANK": "3"},
        {"LOCAL_RANK": "2"},
        {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"},
        STEP | {"SLURM_JOB_NAME": "bash"},
        STEP | {"SLURM_JOB_NAME": "interactive"},
        STEP | {"SLURM_JOB_NAME": "mine", "SLURM_PTY_PORT": "4711"},
        {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
    ],
    ids=str,
)
def test_variables_of_other_launchers_leave_one_process(monkeypatch: pytest.MonkeyPatch, stray: dict[str, str]) -> None:
    given(monkeypatch, stray)
    launcher.join(compose().trainer)
    assert (launcher.count(), launcher.rank(), launcher.nodes()) == (1, 0, 1)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "RANK": "3", "GROUP_WORLD_SIZE": "2"}, (4, 3, 2)),
        (STEP | {"SLURM_STEP_NUM_NODES": "2"}, (4, 2, 2)),
        # torchrun started by srun
        (STEP | {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "8", "RANK": "5", "GROUP_WORLD_SIZE": "4"}, (8, 5, 4)),
    ],
)
def test_what_a_launcher_says_of_its_processes(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[int, int, int]
) -> None:
    given(monkeypatch, variables)
    assert (launcher.count(), launcher.rank(), launcher.nodes()) == expected


@pytest.mark.parametrize(
    ("stray", "words"),
    [
        ({"WORLD_SIZE": "2"}, ("WORLD_SIZE=2", "unset WORLD_SIZE;", "torchrun")),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "a"}, ("WORLD_SIZE=2", "unset WORLD_SIZE RANK;")),
        ({"WORLD_SIZE": "two"}, ("WORLD_SIZE=two", "unset WORLD_SIZE;")),
        (STEP | {"SLURM_NTASKS_PER_NODE": "4", "WORLD_SIZE": "2"}, ("WORLD_SIZE=2", "unset WORLD_SIZE;")),
        ({"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "two"}, ("WORLD_SIZE=two", "unset WORLD_SIZE")),
        (STEP, ("--ntasks-per-node", "unset SLURM_STEP_NUM_TASKS SLURM_PROCID SLURM_LOCALID")),
    ],
)
def test_variables_that_ask_for_processes_nobody_started_are_refused(
    monkeypatch: pytest.MonkeyPatch, stray: dict[str, str], words: tuple[str, ...]
) -> None:
    given(monkeypatch, stray)
    with pytest.raises(CtrlRecError) as refusal:
        launcher.join(compose().trainer)
    assert all(word in str(refusal.value) for word in words), refusal.value


def fake_gpus(monkeypatch: pytest.MonkeyPatch, seen: int) -> list[torch.device]:
    """Let the process see GPUs that are not there; return those made current, in order."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(CUDAAccelerator, "parse_devices", staticmethod(lambda devices: list(range(devices))))
    return current


TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2", "GROUP_WORLD_SIZE": "1"}
SRUN = STEP | {"SLURM_NTASKS_PER_NODE": "4", "SLURM_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1"}


@pytest.mark.parametrize(("variables", "seen", "own"), [(TORCHRUN, 4, 2), (SRUN, 4, 2), (SRUN, 1, 0)])
def test_each_process_has_a_gpu_of_its_own_before_it_meets_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], seen: int, own: int
) -> None:
    """Under srun --gpus-per-task=1 it sees that one alone, and Lightning would ask for four."""
    given(monkeypatch, variables)
    current = fake_gpus(monkeypatch, seen)
    met: list[torch.device] = []

    def meet(backend: str, *, device_id: torch.device, **_: object) -> None:
        assert backend == "cpu:gloo,cuda:nccl" and current == [device_id]
        met.append(device_id)

    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(Store(), 2, 4)]))
    monkeypatch.setattr(distributed, "init_process_group", meet)
    monkeypatch.setattr(logging, "disable", lambda _: None)
    config = compose("trainer=gpu").trainer
    launcher.join(config)
    assert met == [torch.device("cuda", own)]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    fit = trainer(config, tmp_path, [], [], max_epochs=1)
    fit.strategy._local_rank = 2
    assert fit.strategy.root_device == torch.device("cuda", own)
    assert fit.num_devices == 4


@pytest.mark.parametrize(
    ("launched", "number", "seen", "visible", "expected"),
    [
        ("joblib", 0, 4, None, "0"),
        ("joblib", 5, 4, None, "1"),
        ("submitit_local", 1, 2, "GPU-a,GPU-b", "GPU-b"),
        ("joblib", 3, 1, "7", "7"),  # a worker's later rows, or a launcher that has given each its own
        ("joblib", 3, 0, None, None),
        (None, 1, 4, None, None),  # one row after the other
    ],
)
def test_rows_side_by_side_take_a_gpu_each(
    monkeypatch: pytest.MonkeyPatch, launched: str | None, number: int, seen: int, visible: str | None, expected: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that what is set here is undone
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    given(monkeypatch, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    fake_gpus(monkeypatch, seen)
    words = ["hydra.mode=MULTIRUN", *([f"hydra/launcher={launched}"] if launched else [])]
    with initialize_config_dir(str(conf_directory()), version_base="1.3"):
        node = hydra.compose("config", words, return_hydra_config=True)
    with open_dict(node):
        node.hydra.job.num = number
    monkeypatch.setattr(HydraConfig.instance(), "cfg", node)
    launcher.join(compose().trainer)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected


class Store:
    def set_timeout(self, timeout: timedelta) -> None:
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, TORCHRUN)
    assert not fake_gpus(monkeypatch, 1)
    with pytest.raises(CtrlRecError, match=r"number 2 of its machine and sees 1 GPUs.*--nproc-per-node"):
        launcher.join(compose("trainer=gpu").trainer)


def test_processes_that_do_not_come_are_waited_for_no_longer_than_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    given(monkeypatch, {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"})
    port = free_port()
    monkeypatch.setenv("MASTER_PORT", port)
    monkeypatch.setattr(launcher, "_MEETING", timedelta(seconds=2))
    monkeypatch.setattr(launcher, "_NOTICE", 0.5)
    with pytest.raises(CtrlRecError, match=rf"localhost:{port} \(MASTER_ADDR, MASTER_PORT\).*unset WORLD_SIZE RANK"):
        launcher.join(compose("trainer=cpu").trainer)
    (notice,) = capsys.readouterr().err.splitlines()
    assert f"localhost:{port}" in notice and "all of 2 processes" in notice and "unset WORLD_SIZE RANK" in notice


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_waiting_for_others_ends_when_told_to(tmp_path: Path, sign: signal.Signals, status: int) -> None:
    variables = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost"}
    words = [sys.executable, "-m", "ctrlrec", "stage=data", "trainer=cpu", f"output={tmp_path / 'runs'}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            words, cwd=tmp_path, stderr=log, stdout=log,
            env=os.environ | variables | {"MASTER_PORT": free_port(), "PYTHONPATH": str(ROOT)},
            # Where the tests run in a shell's background, Ctrl-C is ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    until = time.monotonic() + 60
    while "waiting at" not in (tmp_path / "log").read_text():
        assert process.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
        time.sleep(0.1)
    process.send_signal(sign)
    assert process.wait(timeout=10) == status
    assert "Traceback" not in (tmp_path / "log").read_text()
