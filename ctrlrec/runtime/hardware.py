"""The device, threads, memory and precision of this process."""

import ctypes
import logging
import os
import platform
import sys
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ctrlrec.config.compose import typed
from ctrlrec.config.schema import Config, ModelConfig, TrainerConfig
from ctrlrec.errors import CtrlRecError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def hardware() -> dict[str, Any]:
    """Return processor count, architecture and accelerators; no host name."""
    import torch

    accelerators = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerators": accelerators,
        "native_bfloat16": native_bfloat16(),
    }


def native_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 matrices natively."""
    import torch

    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def peak_memory_bytes() -> int | None:
    """Return the largest resident size of this process so far; None on Windows, which has no ``getrusage``."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def check_accelerator(config: TrainerConfig) -> None:
    """Refuse a GPU that is asked for and not there.

    Raises:
        CtrlRecError: naming what to change.
    """
    if config.accelerator != "gpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise CtrlRecError(
            "trainer.accelerator=gpu: torch finds no GPU that it can use; use trainer.accelerator=cpu, or install the "
            "driver and a build of torch that belong to the GPU"
        )


def prepare_hardware(config: TrainerConfig) -> None:
    """Threads, memory and matrix-product precision of this process.

    Raises:
        CtrlRecError: if a GPU is asked for and there is none.
    """
    import torch
    import transformers

    check_accelerator(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    on_cpu = device(config).type == "cpu"
    if on_cpu:
        keep_freed_memory()
    torch.set_float32_matmul_precision(config.matmul_precision)
    if config.precision.startswith("bf16") and on_cpu and not native_bfloat16():
        log.warning(
            "trainer.precision=%s: this processor has no bfloat16 units, and emulating them takes ten times as long as "
            "float32 and more; trainer.precision=auto chooses by the hardware", config.precision
        )  # fmt: skip
    # Messages of these libraries at every start would bury the log of the run.
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\..*")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors; ``MALLOC_*`` in the environment goes before.

    It would give large ones back at every step, and the kernel clears each page of the next: up to a third of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
        mallopt(option, 2**31 - 1)


def precision(config: TrainerConfig) -> str:
    """Return ``trainer.precision``; auto is bf16-mixed if the device multiplies bfloat16 natively, 32-true otherwise.

    Trained weights and optimiser states are float32 either way; frozen ones are as ``model.dtype`` says.
    """
    if config.precision != "auto":
        return config.precision
    return "bf16-mixed" if _multiplies_bfloat16(config) else "32-true"


def settled(config: Config) -> ModelConfig:
    """Return the section ``model``, in which a dtype of auto is what it means on the trainer's device.

    It is bfloat16 if the device multiplies it natively, float32 otherwise.
    """
    if config.model.dtype != "auto":
        return config.model
    return replace(typed(config.model), dtype="bfloat16" if _multiplies_bfloat16(config.trainer) else "float32")


def _multiplies_bfloat16(config: TrainerConfig) -> bool:
    """Return whether the device of a run multiplies bfloat16 natively."""
    import torch

    return torch.cuda.is_bf16_supported() if device(config).type == "cuda" else native_bfloat16()


def device(config: TrainerConfig) -> "torch.device":
    """Return where models run outside a trainer: evaluation."""
    import torch

    if config.accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


def autocast(config: TrainerConfig) -> "torch.autocast":
    """Return the trainer's precision as a context, so that evaluation multiplies as training does."""
    import torch

    return torch.autocast(device(config).type, torch.bfloat16, enabled=precision(config) == "bf16-mixed")
