"""Out of memory: evaluation and rollouts halve their batches and log it; training names the setting to lower."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from answering import generate
from transformers import PreTrainedModel

from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.engines import hf, native
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.runtime.faults import explained, halving

ERRORS = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError(),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported at another call", 2),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
)


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "python", "runtime", "cublas", "cudnn"])
def test_a_batch_too_large_is_halved_until_it_fits(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[int] = []

    def answers(size: int) -> Iterator[str]:
        asked.append(size)
        yield f"by {size}"
        if size > 3:
            raise error
        yield "the rest"

    with caplog.at_level(logging.WARNING):
        assert list(halving(answers, 11)) == ["by 11", "by 5", "by 2", "the rest"]
    assert asked == [11, 5, 2]
    assert "out of memory with 11 answers at a time: continuing with 5; lower generation.batch_size" in caplog.text


def test_a_single_answer_too_large_is_one_line() -> None:
    def answers(size: int) -> Iterator[str]:
        raise MemoryError
        yield

    with pytest.raises(CtrlRecError, match="out of memory for a single answer"):
        list(halving(answers, 2))


def test_other_errors_are_not_taken_for_it() -> None:
    calls: list[int] = []

    def answers(size: int) -> Iterator[str]:
        calls.append(size)
        raise RuntimeError("shapes do not fit")
        yield

    with pytest.raises(RuntimeError, match="shapes"):
        list(halving(answers, 3))
    assert calls == [3]


def test_training_names_the_setting(tmp_path: Path) -> None:
    said = r"out of memory: lower sl\.micro_batch_size"
    with pytest.raises(CtrlRecError, match=said), explained(tmp_path, "lower sl.micro_batch_size"):
        raise ERRORS[0]


@pytest.mark.parametrize(("engine", "function"), [(native, "decode"), (hf, "greedy_or_sampled")])
def test_evaluation_gives_the_same_answers_in_halves(
    make_model: Callable[..., PreTrainedModel],
    chat_format: ChatFormat,
    monkeypatch: pytest.MonkeyPatch,
    engine: ModuleType,
    function: str,
) -> None:
    model, prompts = make_model(), [[1, 20 + row, 30, 4, 2] for row in range(5)]
    name = engine.__name__.rpartition(".")[2]
    whole = generate(model, chat_format, prompts, 8, name)
    original, sizes = getattr(engine, function), []

    def scarce(*arguments):
        sizes.append(arguments[6] if engine is native else len(arguments[2]))
        if sizes[-1] > 2:
            raise ERRORS[0]
        return original(*arguments)

    monkeypatch.setattr(engine, function, scarce)
    again = generate(model, chat_format, prompts, 8, name)
    assert [sample.tokens for sample in again] == [sample.tokens for sample in whole]
    assert sizes[:2] == [5, 2]
