"""What a process does with the hardware it finds."""

import os
import subprocess
import sys

import pytest
import torch

from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import hardware


@pytest.mark.parametrize(
    ("precision", "native", "warned"),
    [("bf16-mixed", False, True), ("bf16-mixed", True, False), ("auto", False, False)],
)
def test_emulated_bfloat16_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, precision: str, native: bool, warned: bool
) -> None:
    monkeypatch.setattr(hardware, "native_bfloat16", lambda: native)
    words = (f"trainer.precision={precision}", "trainer.accelerator=cpu", "trainer.matmul_precision=highest")
    hardware.prepare_hardware(compose(*words).trainer)
    assert ("bfloat16 units" in caplog.text) == warned


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(CtrlRecError, match="accelerator=gpu: torch finds no GPU"):
        hardware.prepare_hardware(compose("trainer=gpu").trainer)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("words", "gpu"), [((), True), (("trainer=cpu",), False)])
def test_auto_asks_the_device_that_computes(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], gpu: bool, native: bool
) -> None:
    """A machine whose GPU and processor differ: the other one's abilities do not matter."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: native is gpu)
    monkeypatch.setattr(hardware, "native_bfloat16", lambda: native is not gpu)
    config = compose("model=smollm2_135m", *words)
    assert hardware.settled(config).dtype == ("bfloat16" if native else "float32")
    assert hardware.precision(config.trainer) == ("bf16-mixed" if native else "32-true")


def test_a_dtype_that_is_named_is_taken() -> None:
    for dtype in ("bfloat16", "float32"):
        assert hardware.settled(compose("model=smollm2_135m", f"model.dtype={dtype}")).dtype == dtype


FAULTS = """
import resource
import torch
from ctrlrec.runtime.hardware import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
plain = faults()
keep_freed_memory()
faults()
print(plain, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
@pytest.mark.parametrize(("told", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "4"}, False)])
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(told: dict[str, str], kept: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env=environment | told, capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert (after < before / 10) == kept
