"""The processes of one run: what torchrun or srun says of them, and how they meet."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ctrlrec.config.schema import TrainerConfig
from ctrlrec.errors import CtrlRecError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_PATIENCE = timedelta(days=30)  # process 0 may prepare data or ask a server for as long as it takes
_MEETING = timedelta(minutes=5)  # from the first process that is ready to the last
_NOTICE = 5.0  # seconds of waiting for other processes until a line says so
# Variables that launchers set; a process without a launcher should not have them.
_TORCHRUN = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "GROUP_WORLD_SIZE", "TORCHELASTIC_RUN_ID")
_MEETING_PLACE = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE")  # of processes that torchrun starts
_SRUN = ("SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "SLURM_PROCID", "SLURM_LOCALID")


def _variables() -> tuple[str, ...]:
    """Return the variables of the launcher that started this process; none without a launcher.

    ``WORLD_SIZE`` alone does not mean one: Kubeflow and SageMaker set it in every container. A shell inside a SLURM job
    has the variables of its step; ``bash`` and ``interactive`` are what such jobs are called.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _TORCHRUN
    shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive") or "SLURM_PTY_PORT" in os.environ
    return _SRUN if "SLURM_STEP_NUM_TASKS" in os.environ and not shell else ()


def _number(torchrun: str, srun: str, default: int) -> int:
    """Return the launcher's value of a variable.

    Raises:
        CtrlRecError: for a value that is not a whole number.
    """
    variables = _variables()
    name = next((name for name in (torchrun, srun) if name in variables), "")
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise CtrlRecError(f"{name}={text} in the environment: expected a whole number; {_alone(variables)}")
    return int(text)


def _alone(names: Iterable[str]) -> str:
    """Return the advice for running as one process."""
    return f"to run as one process: unset {' '.join(name for name in names if name in os.environ)}"


def count() -> int:
    """Return the number of processes of this run; a job of many tasks is one process unless srun starts it."""
    return _number("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", default=1)


def rank() -> int:
    """Return the number of this process; 0 writes files and logs."""
    return _number("RANK", "SLURM_PROCID", default=0) if count() > 1 else 0


def nodes() -> int:
    """Return the number of machines of this run."""
    return _number("GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES", default=1) if count() > 1 else 1


def join(config: TrainerConfig) -> None:
    """Meet the other processes of this run; at once in a run of one process.

    Raises:
        CtrlRecError: for variables of a launcher that did not start this process, for what several processes cannot do
            together, and if some of them do not come.
    """
    _check_variables()
    if count() == 1:
        if config.strategy == "fsdp":
            raise CtrlRecError(
                "trainer.strategy=fsdp shards a model over several processes, and this is one: start it with "
                "torchrun --nproc-per-node ... -m ctrlrec ..."
            )
        _share_gpus(config)
        return
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise CtrlRecError(
            f"-m with {count()} processes: a row that fails in one would leave the others in another: start "
            "each row as a command of its own (torchrun ... -m ctrlrec variant=v1, then variant=v2)"
        )
    from torch import distributed

    if rank():
        logging.disable(logging.WARNING)
    if not distributed.is_initialized():
        # A library that asks the current device must not start the first GPU in every process.
        _meet("cpu:gloo,cuda:nccl", settle_gpu()) if on_gpus(config) else _meet("gloo")


def _share_gpus(config: TrainerConfig) -> None:
    """Leave a row that runs beside others one of several GPUs, by its number; all would take the first.

    A worker keeps its GPU for the rows that follow, because CUDA reads the variable once.
    """
    side_by_side = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    if not side_by_side or HydraConfig.get().launcher._target_.endswith(".BasicLauncher"):
        return
    if config.accelerator == "cpu":
        return
    import torch

    seen = torch.cuda.device_count()  # asks the driver's library, and not CUDA
    if seen > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = _gpu_name(int(HydraConfig.get().job.num) % seen)


def _check_variables() -> None:
    """Refuse the variables of a launcher that this process was not started by: others would be waited for in vain.

    Raises:
        CtrlRecError: naming the variables and how to be one process.
    """
    size = os.environ.get("WORLD_SIZE") or "1"
    if size not in ("1", str(count())):
        raise CtrlRecError(
            f"WORLD_SIZE={size} is set, but this process was not started by torchrun; {_alone(_TORCHRUN)}; to run as "
            "several start torchrun ... -m ctrlrec ... on each machine"
        )
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS") or "1"
    if not _variables() and tasks != "1":
        log.warning("this is one process, though SLURM_STEP_NUM_TASKS=%s: it runs in an interactive job", tasks)
    if _variables() == _SRUN and count() > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise CtrlRecError(
            f"SLURM_STEP_NUM_TASKS={count()} without SLURM_NTASKS_PER_NODE: start srun with --ntasks-per-node; "
            f"{_alone(_SRUN)}"
        )


def _meet(backend: str, device: "torch.device | None" = None) -> None:
    """Connect all processes within :data:`_MEETING`.

    Args:
        backend: of torch.distributed.
        device: GPU of this process; None on a CPU.

    Raises:
        CtrlRecError: naming the address and the variables, if some do not come.
    """
    from torch import distributed

    if _variables() == _SRUN:
        from pytorch_lightning.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment()
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = slurm.main_address, str(slurm.main_port)
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')} (MASTER_ADDR, MASTER_PORT)"
    failures: list[Exception] = []

    def connect() -> None:
        try:
            url = f"env://?rank={rank()}&world_size={count()}"
            store, _, _ = next(distributed.rendezvous(url, timeout=_MEETING))
            store.set_timeout(_PATIENCE)
            distributed.init_process_group(
                backend, store=store, rank=rank(), world_size=count(), timeout=_PATIENCE, device_id=device
            )
        except Exception as error:
            failures.append(error)

    # In a thread: Ctrl-C and SIGTERM reach Python code, not a main thread that waits inside torch.
    waiting = threading.Thread(target=connect, daemon=True)
    waiting.start()
    started, silent = time.monotonic(), local_rank() > 0
    while waiting.is_alive():
        waiting.join(0.1)
        if not silent and time.monotonic() - started > _NOTICE:
            silent = True
            print(f"waiting at {place} for all of {count()} processes; {_alone(_variables())}", file=sys.stderr)
    if failures:
        reason = str(failures[0]).strip().splitlines()[0]
        raise CtrlRecError(
            f"process {rank()} of {count()} did not meet the others at {place} within {_MEETING.seconds // 60} minutes "
            f"({reason}); start all of them, where they can reach that address; {_alone(_variables())}"
        )


def local_rank() -> int:
    """Return the number of this process among those of its machine."""
    return _number("LOCAL_RANK", "SLURM_LOCALID", default=0)


def gpu() -> "torch.device":
    """Return the GPU of this process.

    Raises:
        CtrlRecError: if the process sees GPUs, but fewer than its machine has processes.
    """
    import torch

    seen = torch.cuda.device_count()
    if seen == 1 and _variables() == _SRUN:  # under --gpus-per-task=1 each process sees its own alone, as number 0
        return torch.device("cuda", 0)
    if local_rank() >= seen:
        raise CtrlRecError(
            f"process {rank()} is number {local_rank()} of its machine and sees {seen} GPUs, counted from 0: start as "
            "many processes a machine as it has GPUs (torchrun --nproc-per-node, srun --ntasks-per-node), or set "
            "trainer=cpu"
        )
    return torch.device("cuda", local_rank())


def settle_gpu() -> "torch.device":
    """Make the GPU of this process the current one, and return it."""
    import torch

    device = gpu()
    torch.cuda.set_device(device)
    return device


def _gpu_name(place: int) -> str:
    """Return how ``CUDA_VISIBLE_DEVICES`` names a GPU that this process sees: a number, or an identifier."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",")[place].strip() if visible else str(place)


@contextmanager
def on_its_own() -> Iterator[None]:
    """Let a process start that sees the GPU of this one alone, and is not one of the run's.

    It reads the environment at its start. Taken for one of torchrun's processes, it would wait forever for a store that
    torchrun never made. In a run of one process nothing changes.

    Raises:
        CtrlRecError: if this process has no GPU of its own.
    """
    if count() == 1:
        yield
        return
    import torch

    meanwhile: dict[str, str | None] = dict.fromkeys((*_variables(), *_MEETING_PLACE))
    if torch.cuda.is_available():
        meanwhile["CUDA_VISIBLE_DEVICES"] = _gpu_name(gpu().index)
    before = {name: os.environ.get(name) for name in meanwhile}
    _set(meanwhile)
    try:
        yield
    finally:
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    """Set variables of the environment, and delete those without a value."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def on_gpus(config: TrainerConfig) -> bool:
    """Return whether the processes compute on GPUs."""
    import torch

    return config.accelerator != "cpu" and torch.cuda.is_available()
