"""What the machine can do: matrix products at the shapes used, and reading memory."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import Metric

from parts import world

METRICS = (
    Metric("training_gflops", "GFLOP/s"),
    Metric("training_gflops_float32", "GFLOP/s"),
    Metric("decoding_gflops", "GFLOP/s"),
    Metric("read_gigabytes_per_second", "GB/s"),
)
# SmolLM2-135M: width, what the fused projections give, inner width; rows of a training step and of a decoding step.
FULL = {"width": 576, "outputs": [960, 576, 3072], "training_rows": 2640, "decoding_rows": 16, "megabytes": 512,
        "seconds": 1.0}  # fmt: skip
QUICK = {"width": 64, "outputs": [96, 64, 320], "training_rows": 256, "decoding_rows": 4, "megabytes": 32,
         "seconds": 0.05}  # fmt: skip


def prepare(scratch: Path, sizes: world.Sizes) -> None:
    """Nothing is needed."""


def rate(work: Callable[[], object], amount: float, seconds: float) -> float:
    """Amount a second of the fastest of many repetitions, after one that does what is done once."""
    work()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return amount / best


def ours(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    import torch

    from ctrlrec.runtime.hardware import precision, prepare_hardware

    config = world.compose(scratch)
    prepare_hardware(config.trainer)
    quick = torch.bfloat16 if precision(config.trainer) == "bf16-mixed" else torch.float32

    def gflops(rows: int, dtype: torch.dtype) -> float:
        width = sizes["width"]
        left = torch.randn(rows, width, dtype=dtype)
        weights = [torch.randn(size, width, dtype=dtype) for size in sizes["outputs"]]
        work = 2 * rows * width * sum(sizes["outputs"])
        return (
            rate(lambda: [torch.nn.functional.linear(left, weight) for weight in weights], work, sizes["seconds"]) / 1e9
        )

    # Far larger than any cache; a sum only reads.
    large = torch.ones(sizes["megabytes"] * 250_000)
    return {
        "training_gflops": gflops(sizes["training_rows"], quick),
        "training_gflops_float32": gflops(sizes["training_rows"], torch.float32),
        "decoding_gflops": gflops(sizes["decoding_rows"], quick),
        "read_gigabytes_per_second": rate(large.sum, 4 * large.numel(), sizes["seconds"]) / 1e9,
        "bytes_a_weight": quick.itemsize,
    }


SIDES = {"ours": ours}
