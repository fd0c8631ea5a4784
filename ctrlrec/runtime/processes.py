"""How the processes of one run share work and stop together.

A launcher starts the same command in every process. All of them train, each on its share of every batch; whatever is
not training is done by process 0 while the others wait. In a run of one process every function here is a plain call.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ctrlrec.config.schema import TrainerConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.launcher import count, on_gpus, rank, settle_gpu

if TYPE_CHECKING:
    import torch

Made = TypeVar("Made")


def gather(value: Made) -> list[Made]:
    """Gather the value of every process, in the order of their ranks."""
    if count() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def once(work: Callable[[], Made]) -> Made:
    """Work done by process 0; the others wait for what it gives.

    Raises:
        CtrlRecError: in every process if it fails in process 0.
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
    """Stop all processes if any of them cannot continue; the first of those records the reason.

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
    """Freeze a backbone and leave each process a part of every layer by FSDP2; a layer is whole only while it computes.

    Adapters added afterwards stay whole everywhere, and so do embeddings and head: gradients, optimiser and checkpoints
    are as without. All processes must then make equally many passes.

    Args:
        model: the backbone without adapters.
        layers: of it, to be sharded.
        config: says on which devices.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = "cuda" if on_gpus(config) else "cpu"
    if device == "cuda":
        settle_gpu()
    model.requires_grad_(False)
    mesh = init_device_mesh(device, (count(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)


def share(work: Any) -> Any:
    """Return this process's part of a list, a range or a tensor: every n-th element, from its rank on."""
    return work[rank() :: count()]


def own_seed(seed: int, place: int) -> int:
    """Return the seed of this process for one epoch or iteration, so that it draws what no other process draws."""
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
