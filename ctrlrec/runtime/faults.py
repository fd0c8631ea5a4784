"""Faults of disk, memory and arithmetic: each is reported in one line, and none is trained on."""

import errno
import gc
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from ctrlrec.errors import CtrlRecError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

# Messages of errors without a class of their own: PyTorch's allocator for CPUs, the CUDA runtime, its libraries.
_OUT_OF_MEMORY = (
    *("can't allocate memory", "CUDA error: out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
)


def storage_fault(error: BaseException) -> str | None:
    """Return one line for an error of the file system, whichever library met it; None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    found = re.search(r"\(os error (\d+)\)", str(error))  # errors of safetensors and polars come from Rust
    return os.strerror(int(found[1])) if found else None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the memory of the device or of the machine ran out."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


@contextmanager
def explained(place: Path, memory_advice: str = "") -> Iterator[None]:
    """Turn errors of storage and memory into one line.

    Args:
        place: what was being written or made.
        memory_advice: which settings need less memory.

    Raises:
        CtrlRecError: for such an error.
    """
    try:
        yield
    except CtrlRecError:
        raise
    except Exception as error:
        fault = storage_fault(error)
        if fault is not None:
            advice = "make room or set output= to another folder"
            if os.strerror(errno.ENAMETOOLONG) in fault:
                advice = "shorten dataset.name, model.name, variant.name or output=, of which it is made"
            raise CtrlRecError(
                f"{place}: {fault}; {advice}, then run the same command again: it resumes from what is saved"
            ) from error
        if is_out_of_memory(error):
            advice = f": {memory_advice}" if memory_advice else ""
            raise CtrlRecError(f"{place}: out of memory{advice}, then run the same command again") from error
        raise


def halving(answers: Callable[[int], Iterator[Answer]], size: int) -> Iterator[Answer]:
    """Yield from ``answers(size)``; if memory runs out, halve ``size``, log it and ask for the rest.

    Args:
        answers: yields the answers that it has not yielded yet, made ``size`` at a time.
        size: to begin with.

    Raises:
        CtrlRecError: if memory runs out for one at a time.
    """
    while True:
        try:
            yield from answers(size)
            return
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise CtrlRecError("out of memory for a single answer: lower model.max_response_length") from None
        # After the handler: while it runs, the error's traceback keeps the tensors of the failed batch alive.
        import torch

        gc.collect()
        torch.cuda.empty_cache()
        log.warning(
            "%-12s out of memory with %d answers at a time: continuing with %d; lower generation.batch_size, or in RL "
            "rl.prompts", "", size, size // 2,
        )  # fmt: skip
        size //= 2


def refuse(what: str, advice: str, directory: Path, tensors: Mapping[str, "torch.Tensor"]) -> NoReturn:
    """Stop before a step on numbers that are not finite, and keep what is needed to look at it again.

    Args:
        what: is not finite.
        advice: what to change.
        directory: of the stage; ``not_finite.safetensors`` goes there.
        tensors: the batch and the weights that met it.

    Raises:
        CtrlRecError: always.
    """
    from safetensors.torch import save

    from ctrlrec.runtime.files import write_bytes

    path = directory / "not_finite.safetensors"
    write_bytes(path, save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}))
    raise CtrlRecError(
        f"the {what} is not finite, nothing was trained on it: {advice}; batch and weights are in {path}"
    )
