"""How the processes of one run share work and stop together.

A launcher starts the same command in every process. All of them train, each on its share of every batch, and answer,
each its share of the questions. Process 0 does everything else while the others wait. In a run of one process every
function here is a plain call.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ctrlrec.config.schema import TrainerConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.launcher import count, on_gpus, rank, settle_gpu

if TYPE_CHECKING:
    import torch

Made = TypeVar("Made")

_ALONE = ContextVar("alone", default=False)  # whether process 0 does what the others wait for


def _several() -> bool:
    """Return whether other processes take part in what this one does now."""
    return count() > 1 and not _ALONE.get()


def gather(value: Made) -> list[Made]:
    """Gather the value of every process, in the order of their ranks."""
    if not _several():
        return [value]
    from torch import distributed

    values: list[Any] = [None] * count()
    distributed.all_gather_object(values, value)
    return values


@contextmanager
def together() -> Iterator[None]:
    """Let all processes leave the block, or none if one of them fails in it; inside, none may wait for another.

    Raises:
        CtrlRecError: in the others if one fails, which raises its own error.
    """
    try:
        yield
    except Exception:
        gather(True)
        raise
    failed = gather(False)
    if any(failed):
        raise CtrlRecError(f"process {rank()} stopped: process {failed.index(True)} failed and says why")


def once(work: Callable[[], Made]) -> Made:
    """Work done by process 0, as in a run of one process; the others wait for what it gives.

    Raises:
        CtrlRecError: in every process if it fails in process 0.
    """
    if not _several():
        return work()
    made: Any = None
    with together():
        if rank() == 0:
            before = _ALONE.set(True)
            try:
                made = work()
            finally:
                _ALONE.reset(before)
    everyones = gather(made)
    return made if rank() == 0 else everyones[0]


def stop_where(bad: bool, refuse: Callable[[], NoReturn]) -> None:
    """Stop all processes if any of them cannot continue; the first of those records the reason.

    Raises:
        CtrlRecError: what ``refuse`` raises, in every process.
    """
    if not _several():
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
    return work[rank() :: count() if _several() else 1]


def joined(part: list[Made]) -> list[Made]:
    """Return the whole list, in order, of which each process has what belongs to its :func:`share`."""
    parts = gather(part)
    whole: list[Any] = [None] * sum(map(len, parts))
    for place, mine in enumerate(parts):
        whole[place :: len(parts)] = mine
    return whole


def own_seed(seed: int, place: int) -> int:
    """Return the seed of this process for one epoch or iteration, so that it draws what no other process draws."""
    return (rank() << 48) + (seed << 24) + place


def add_up(*tensors: "torch.Tensor") -> None:
    """Replace every tensor by its sum over processes, in place."""
    if not _several():
        return
    import torch
    from torch import distributed

    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def sum_gradients(parameters: Iterable["torch.nn.Parameter"]) -> None:
    """Replace each gradient by its sum over processes; a process without one adds nothing."""
    if not _several():
        return
    gradients = []
    for parameter in parameters:
        parameter.grad = parameter.new_zeros(parameter.shape) if parameter.grad is None else parameter.grad
        gradients.append(parameter.grad)
    add_up(*gradients)
