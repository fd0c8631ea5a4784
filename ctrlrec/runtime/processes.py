"""One run in several processes, started by torchrun or srun: how they share work and stop together.

A launcher starts the same command in every process. All of them train, each on its share of every batch; whatever is
not training is done by process 0 while the others wait. In a run of one process every function here is a plain call.
"""

import logging
import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ctrlrec.config.schema import SHARING_OUT, TrainerConfig
from ctrlrec.errors import CtrlRecError

if TYPE_CHECKING:
    import torch

Made = TypeVar("Made")

_PATIENCE = timedelta(days=30)  # process 0 may prepare data or evaluate for as long as it takes


def _number(*names: str, default: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name)), default)


def count() -> int:
    """Processes of this run; a job of many tasks is one process unless srun starts it."""
    return _number("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", default=1)


def rank() -> int:
    """Which of them this is; 0 writes files and logs."""
    return _number("RANK", "SLURM_PROCID", default=0) if count() > 1 else 0


def nodes() -> int:
    """Machines of this run."""
    return _number("GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES", default=1) if count() > 1 else 1


def join(config: TrainerConfig) -> None:
    """Meet the other processes of this run; at once in a run of one process.

    Raises:
        CtrlRecError: for what several processes cannot do together.
    """
    if count() == 1:
        if config.strategy in SHARING_OUT:
            raise CtrlRecError(
                f"trainer.strategy={config.strategy} shares out a model between several processes, and this is one: "
                "start it with torchrun --nproc-per-node ... -m ctrlrec ..."
            )
        return
    if config.strategy == "deepspeed" and find_spec("deepspeed") is None:
        raise CtrlRecError(
            "trainer.strategy=deepspeed: DeepSpeed is not installed: pip install 'ctrlrec[deepspeed]', or use "
            "trainer.strategy=fsdp"
        )
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise CtrlRecError(
            f"-m with {count()} processes: a row that fails in one would leave the others in another: start "
            "each row as a command of its own (torchrun ... -m ctrlrec variant=v1, then variant=v2)"
        )
    from torch import distributed

    if rank():
        logging.disable(logging.WARNING)
    if distributed.is_initialized():
        return
    from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    launcher = TorchElasticEnvironment() if TorchElasticEnvironment.detect() else SLURMEnvironment()
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = launcher.main_address, str(launcher.main_port)
    backend = "cpu:gloo,cuda:nccl" if _on_gpus(config) else "gloo"
    distributed.init_process_group(backend, rank=rank(), world_size=count(), timeout=_PATIENCE)


def _on_gpus(config: TrainerConfig) -> bool:
    import torch

    return config.accelerator != "cpu" and torch.cuda.is_available()


def gather(value: Made) -> list[Made]:
    """The value of every process, in the order of their ranks."""
    if count() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def once(work: Callable[[], Made]) -> Made:
    """Work done by process 0; the others wait for what it gives.

    Raises:
        CtrlRecError: in every process where it fails in process 0.
    """
    if count() == 1:
        return work()
    made: Any = None
    failure: Exception | None = None
    if rank() == 0:
        try:
            made = work()
        except Exception as error:
            failure = error
    from torch import distributed

    told = [made, failure is not None]
    distributed.broadcast_object_list(told, src=0)
    if failure is not None:
        raise failure
    if told[1]:
        raise CtrlRecError(f"process {rank()} stopped: process 0 failed and says why")
    return told[0]


def stop_where(bad: bool, refuse: Callable[[], NoReturn]) -> None:
    """Stop all processes where any of them cannot go on; the first of those says and keeps why.

    Raises:
        CtrlRecError: what ``refuse`` raises, in every process.
    """
    if count() == 1:
        if bad:
            refuse()
        return
    places = [place for place, flag in enumerate(gather(bad)) if flag]
    if not places:
        return
    why = ""
    if rank() == places[0]:
        try:
            refuse()
        except CtrlRecError as error:
            why = str(error)
    raise CtrlRecError(gather(why)[places[0]])


def shard_frozen(model: "torch.nn.Module", layers: "list[torch.nn.Module]", config: TrainerConfig) -> None:
    """Freeze a backbone and leave each process a part of every layer; a layer is whole only while it computes.

    By FSDP2, or by ZeRO-3 of DeepSpeed. Adapters added afterwards stay whole everywhere, and so do embeddings and head:
    gradients, optimiser and checkpoints are as without. All processes must then make equally many passes.

    Args:
        model: the backbone without adapters.
        layers: of it, to be shared out.
        config: says how, and on which devices.
    """
    import torch

    device = "cuda" if _on_gpus(config) else "cpu"
    if device == "cuda":
        torch.cuda.set_device(_number("LOCAL_RANK", "SLURM_LOCALID", default=0))
    model.requires_grad_(False)
    if config.strategy == "deepspeed":
        _shard_by_deepspeed(layers, device)
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device, (count(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)


def _shard_by_deepspeed(layers: "list[torch.nn.Module]", device: str) -> None:
    """ZeRO-3 without DeepSpeed's engine, whose optimiser would share out what is trained as well."""
    os.environ.setdefault("DS_ACCELERATOR", device)
    import deepspeed
    from deepspeed.runtime.zero.parameter_offload import DeepSpeedZeRoOffload

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    backend = "nccl" if device == "cuda" else "gloo"
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
    told = {"train_batch_size": count(), "zero_optimization": {"stage": 3}}
    for layer in layers:
        DeepSpeedZeRoOffload(layer, None, told, param_persistence_threshold=0)


def share(work: Any) -> Any:
    """This process's part of a list, a range or a tensor: every n-th element, from its rank on."""
    return work[rank() :: count()]


def own_seed(seed: int, place: int) -> int:
    """Of the random stream of one epoch or iteration: a process would else draw what the others draw."""
    return (rank() << 48) + (seed << 24) + place


def add_up(*tensors: "torch.Tensor") -> None:
    """Replace every tensor by its sum over processes, in place."""
    if count() == 1:
        return
    import torch
    from torch import distributed

    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def sum_gradients(parameters: Iterable["torch.nn.Parameter"]) -> None:
    """Replace each gradient by its sum over processes; a process without one adds nothing."""
    if count() == 1:
        return
    gradients = []
    for parameter in parameters:
        parameter.grad = parameter.new_zeros(parameter.shape) if parameter.grad is None else parameter.grad
        gradients.append(parameter.grad)
    add_up(*gradients)
