"""The head in chunks: the same numbers and gradients, without all scores at a time."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, PreTrainedModel

from ctrlrec.lm import head
from ctrlrec.lm.footprint import bytes_per_token
from ctrlrec.lm.head import by_chunks, has_kernel, is_chunked, likelihoods, log_probs_and_entropy

Make = Callable[..., PreTrainedModel]
TOKENS, WORDS = 23, 512


class Sizes(TorchDispatchMode):
    """Remembers the most scores of the vocabulary that one tensor held."""

    largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.ndim > 1 and made.shape[0] <= TOKENS:
            self.largest = max(self.largest, made.numel())
        return made


@pytest.fixture(params=["kernel", "computed again"])
def few_at_a_time(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Chunks of five tokens, or for TRL's kernel of 80 words."""
    monkeypatch.setattr(head, "_SCORES", 5 * WORDS)
    monkeypatch.setattr(head.kernels, "TOKENS_AT_ONCE", 32)
    if request.param == "computed again":
        monkeypatch.setattr(head.kernels, "ChunkedLogProbFunction", None)


def every_seventh(scores: torch.Tensor, at: slice) -> torch.Tensor:
    """Allow of each token the words that leave its number over in a division by seven."""
    words, tokens = torch.arange(scores.shape[1]), torch.arange(TOKENS)[at, None]
    return scores.masked_fill(words % 7 != tokens % 7, torch.finfo(scores.dtype).min)


def inputs(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    hidden = torch.randn(TOKENS, model.config.hidden_size).requires_grad_()
    return hidden, 7 * torch.arange(TOKENS) + torch.arange(TOKENS) % 7


@pytest.mark.parametrize("restrict", [None, every_seventh])
@pytest.mark.parametrize("bias", [True, False])
def test_log_probabilities_and_gradients_are_the_same(
    make_model: Make, few_at_a_time: None, restrict: Any, bias: bool
) -> None:
    found = []
    for chunked in (False, True):
        model = make_model(scale=1.0)
        if bias:
            model.lm_head.bias = torch.nn.Parameter(torch.linspace(-1, 1, WORDS))
        hidden, targets = inputs(model)
        with Sizes() as sizes:
            log_probs, entropy = log_probs_and_entropy(model, hidden, targets, 0.7, restrict, chunked)
            (log_probs.pow(2) - 0.3 * entropy).sum().backward()
        with torch.no_grad():
            assert torch.equal(log_probs_and_entropy(model, hidden, targets, 0.7, restrict, chunked)[0], log_probs)
        own = [tensor.grad for tensor in model.lm_head.parameters()]
        assert len(own) == 1 + bias
        found.append([log_probs.detach(), entropy.detach(), hidden.grad, *own])
        assert sizes.largest == TOKENS * WORDS if not chunked else sizes.largest <= 5 * WORDS
    for whole, chunk in zip(*found, strict=True):
        assert whole is not None and chunk is not None
        assert whole.abs().max() > 0.01
        assert torch.allclose(whole, chunk, rtol=1e-5, atol=1e-6 * float(whole.abs().max()))


def test_chunks_cover_every_token_once(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "_SCORES", 5 * WORDS)
    model = make_model()
    hidden, _ = inputs(model)
    sizes = by_chunks(model, hidden, lambda scores, at: (len(scores), at.start), True)
    assert sizes == [(5, 0), (5, 5), (5, 10), (5, 15), (3, 20)]
    assert by_chunks(model, hidden, lambda scores, at: len(scores), False) == [TOKENS]
    none = by_chunks(model, hidden[:0], lambda scores, at: scores.sum(), True)
    assert len(none) == 1 and float(none[0].detach()) == 0  # a pass without a label still has a loss


def test_a_pass_without_a_label_has_a_loss(make_model: Make) -> None:
    model = make_model()
    hidden, targets = inputs(model)
    loss = likelihoods(model, hidden[:0], targets[:0])[0].sum()
    loss.backward()
    assert float(loss.detach()) == 0


def test_a_head_that_is_no_plain_layer_is_computed_again(make_model: Make) -> None:
    model = make_model()
    assert has_kernel(model)
    model.lm_head = torch.nn.Sequential(model.lm_head)
    assert not has_kernel(model)


def trainer(**changes: Any) -> Any:
    settings = {"accelerator": "auto", "precision": "bf16-mixed", "activation_checkpointing": False}
    return SimpleNamespace(**{**settings, "chunked_head": None, **changes})


def test_the_head_is_chunked_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_chunked(trainer()) and is_chunked(trainer(chunked_head=True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert is_chunked(trainer()) and not is_chunked(trainer(accelerator="cpu"))
    assert not is_chunked(trainer(chunked_head=False))


def test_scores_that_never_exist_together_take_no_memory() -> None:
    shape = LlamaConfig(hidden_size=576, num_hidden_layers=30, vocab_size=49152)
    whole, chunked = (bytes_per_token(shape, trainer(), choice) for choice in (False, True))
    assert whole - chunked == 4 * 4 * 0.5 * 49152
    both = SimpleNamespace(is_encoder_decoder=True, get_text_config=lambda: shape)
    assert bytes_per_token(both, trainer(), True) == whole  # type: ignore[arg-type]
