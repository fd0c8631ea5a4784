"""A step as one graph, on a CPU that records operations with their memory and runs them again as a GPU does."""

import random
from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ctrlrec.generation.decoder import decode as decoding
from ctrlrec.generation.decoder import graphs
from ctrlrec.generation.decoder.decode import decode
from ctrlrec.generation.engines.base import in_order
from ctrlrec.generation.sample import Sample

END = 3
SHAPE = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip


def made(**changes: Any) -> PreTrainedModel:
    """A model whose predictions differ clearly, so that ties are out of the question."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()  # type: ignore[return-value]


def asked(count: int) -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randrange(4, 50) for _ in range(rng.randint(1, 40))] for _ in range(count)]


def answers(model: PreTrainedModel, count: int, ends: Collection[int], limit: int, **options: Any) -> list[Sample]:
    return in_order(decode(model, asked(count), ends, limit, **options))


class Tape(TorchDispatchMode):
    """Operations on the very tensors that they were called with; numbers of Python are what they were."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, results))
        return results

    def replay(self) -> None:
        for function, args, kwargs, results in self.calls:
            again = function(*args, **kwargs)
            pairs = [(results, again)] if isinstance(results, torch.Tensor) else zip(results, again, strict=True)
            for old, new in pairs:
                if old is not new and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def captures(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows and capacity of each capture. As on a GPU, capturing computes nothing."""
    found: list[tuple[int, int]] = []

    def captured(work: Any) -> Callable[[], None]:
        batch = work.func.__self__
        found.append((batch.rows, batch.capacity))
        before, state = [part.clone() for part in batch._by_row()], torch.get_rng_state()
        with Tape() as tape:
            work()
        for part, old in zip(batch._by_row(), before, strict=True):
            part.copy_(old)
        torch.set_rng_state(state)
        assert len(tape.calls) > 50
        return tape.replay

    monkeypatch.setattr(graphs, "captured", captured)
    monkeypatch.setattr(decoding, "_CAPTURED", ("cpu",))
    monkeypatch.setattr(decoding, "_BLOCK", {})  # the capacity at once
    return found


@pytest.mark.parametrize("kind", [{"num_key_value_heads": 2}, {"attention_bias": True, "mlp_bias": True}])
@pytest.mark.parametrize("patience", [{}, {"cpu": 1}])
def test_greedy_answers_are_those_of_plain_steps(
    captures: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, kind: dict[str, Any], patience: dict[str, int]
) -> None:
    """Rows leave, move and are filled again between replays; each shape is captured once."""
    monkeypatch.setattr(decoding, "_PATIENCE", patience)
    model, longest = made(**kind), max(map(len, asked(12)))
    with monkeypatch.context() as plain:
        plain.setattr(decoding, "_CAPTURED", ())
        expected = answers(model, 12, {END}, 40)
    assert len({len(answer.tokens) for answer in expected}) > 2 and not captures
    for rows in (None, 5, 1):
        assert answers(model, 12, {END}, 40, rows=rows) == expected
    assert captures == [(12, longest + 40), (5, longest + 40), (1, longest + 40)]


def test_samples_are_drawn_anew_in_every_replay(
    captures: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, found = made(), []
    for devices in ((), ("cpu",)):
        monkeypatch.setattr(decoding, "_CAPTURED", devices)
        torch.manual_seed(4)
        found.append(answers(model, 3, (), 20, temperature=1.5, samples=2))  # without an end all rows stay to the last
    assert found[0] == found[1] and len(captures) == 1
    assert len({tuple(answer.tokens) for answer in found[1]}) == 6


def test_what_cannot_be_captured_is_launched_one_by_one(
    captures: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = made()
    with monkeypatch.context() as plain:
        plain.setattr(decoding, "_CAPTURED", ())
        expected = answers(model, 6, {END}, 30)

    def fails(work: Any) -> Any:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graphs, "captured", fails)
    assert answers(model, 6, {END}, 30, rows=4) == expected
    assert caplog.text.count("cannot be captured (CUDA error: operation not permitted when stream is capturing)") == 1

    def scarce(work: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(graphs, "captured", scarce)
    with pytest.raises(torch.OutOfMemoryError):  # for what halves the rows
        answers(model, 6, {END}, 30)


@pytest.mark.parametrize("few", [1, 2, 3])
def test_answers_shorter_than_the_steps_before_a_capture(captures: list[tuple[int, int]], few: int) -> None:
    found = answers(made(), 4, (), few)
    assert all(len(answer.tokens) == few for answer in found) and captures == []
