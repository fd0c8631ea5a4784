"""How much a training pass may hold."""

from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig

from ctrlrec.config.compose import compose
from ctrlrec.lm.footprint import bytes_per_token, fitting, token_budget

SMOLLM2 = LlamaConfig(hidden_size=576, num_hidden_layers=30, vocab_size=49152)
LLAMA2 = LlamaConfig(hidden_size=4096, num_hidden_layers=32, vocab_size=32000)


@pytest.mark.parametrize(
    ("lengths", "budget", "expected"),
    [
        ([], 5, []),
        ([1, 2, 3], 6, [2, 1]),
        ([1, 2, 3], 9, [3]),
        ([2, 2, 2, 9], 6, [3, 1]),
        ([7, 8], 3, [1, 1]),
        ([2, 3, 3, 4], 7, [2, 1, 1]),
    ],
)
def test_samples_of_a_pass(lengths: list[int], budget: int, expected: list[int]) -> None:
    assert fitting(lengths, budget) == expected


@pytest.mark.parametrize(("shape", "counted"), [(SMOLLM2, 0.86e6), (LLAMA2, 7.0e6)])
def test_the_estimate_is_no_smaller_than_what_was_counted(shape: LlamaConfig, counted: float) -> None:
    config = compose("trainer.precision=bf16-mixed").trainer
    estimate = bytes_per_token(shape, config, False)
    assert counted < estimate < 2 * counted
    assert bytes_per_token(shape, compose("trainer.precision=32-true").trainer, False) > 1.5 * estimate
    recomputed = bytes_per_token(
        shape, compose("trainer.precision=bf16-mixed", "trainer.activation_checkpointing=true").trainer, False
    )
    assert recomputed < 0.5 * estimate


@pytest.mark.parametrize("asked", [None, 77])
@pytest.mark.parametrize("words", [("trainer=gpu",), ("trainer=cpu",)])
def test_the_budget_is_found_on_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], asked: int | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (78 * 2**30, 80 * 2**30))
    model = SimpleNamespace(config=SMOLLM2)
    trainer = compose(*words).trainer
    found = token_budget(asked, model, trainer, "sl")  # type: ignore[arg-type]
    if asked is not None or words == ("trainer=cpu",):
        assert found == asked
    else:  # a batch of 64 samples of 172 tokens is one pass, and a pass leaves room
        assert 64 * 172 < found < 78 * 2**30 / 0.86e6
        beside = token_budget(asked, model, trainer, "rl", 0.35)  # type: ignore[arg-type]
        assert beside == pytest.approx(found * (78 - 0.35 * 80) / 78, abs=1)
