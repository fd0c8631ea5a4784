"""Padded forward passes, kernels and the head on selected positions."""

import builtins
import importlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from ctrlrec.lm import kernels
from ctrlrec.lm.scoring import check_head, hidden_states, keeps_apart, logits, packed_hidden_states, pad

ROWS = [[7, 8, 9], [10], [11, 12, 13, 14, 300]]


def test_pad_on_either_side() -> None:
    ids, mask = pad(ROWS, 0)
    assert ids.tolist() == [[7, 8, 9, 0, 0], [10, 0, 0, 0, 0], [11, 12, 13, 14, 300]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    ids, mask = pad(ROWS, 0, left=True)
    assert ids.tolist() == [[0, 0, 7, 8, 9], [0, 0, 0, 0, 10], [11, 12, 13, 14, 300]]
    assert mask.tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]]
    assert pad([], 0)[0].shape == (0, 0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_is_invisible_without_a_mask(make_model: Callable[..., PreTrainedModel], attention: str) -> None:
    model = make_model()
    model.set_attn_implementation(attention)
    ids, mask = pad(ROWS, 0)
    masks, layer = [], model.get_decoder().layers[0]
    layer.register_forward_pre_hook(lambda _, __, told: masks.append(told["attention_mask"]), with_kwargs=True)
    with torch.no_grad():
        scored = logits(model, hidden_states(model, ids))
        if attention == "sdpa":  # which then takes the causal kernel
            assert masks == [None]
        for row, tokens in enumerate(ROWS):
            alone = model(input_ids=torch.tensor([tokens])).logits[0]
            assert torch.allclose(scored[row][mask[row].bool()], alone, atol=1e-4)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_samples_of_a_row_do_not_see_each_other(make_model: Callable[..., PreTrainedModel], attention: str) -> None:
    model = make_model()
    model.set_attn_implementation(attention)
    ids, _ = pad([ROWS[0] + ROWS[1], ROWS[2]], 0)
    positions, _ = pad([[0, 1, 2, 0], [0, 1, 2, 3, 4]], 0)
    with torch.no_grad():
        scored = logits(model, packed_hidden_states(model, ids, positions))
        for tokens, found in zip(ROWS, (scored[0, :3], scored[0, 3:4], scored[1]), strict=True):
            assert torch.allclose(found, model(input_ids=torch.tensor([tokens])).logits[0], atol=1e-4)
    assert keeps_apart(model)


def by_samples(
    module: Any, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: None, **told: Any
) -> tuple[torch.Tensor, None]:
    """A stand-in for flash attention: rows laid end to end, and which tokens are one sample as it is told."""
    assert mask is None
    told.setdefault("cu_seq_lens_q", torch.tensor([queries.shape[2] * row for row in range(len(queries) + 1)]))
    rows, length = queries.shape[0], queries.shape[2]
    flat = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (queries, keys, values)]
    pieces = []
    for begin, end in itertools.pairwise(told["cu_seq_lens_q"].tolist()):
        assert end - begin <= told.get("max_length_q", length)
        piece = (tensor[None, begin:end].transpose(1, 2) for tensor in flat)
        pieces.append(torch.nn.functional.scaled_dot_product_attention(*piece, is_causal=True).transpose(1, 2)[0])
    return torch.cat(pieces).unflatten(0, (rows, length)), None


def test_flash_attention_is_told_where_samples_begin(make_model: Callable[..., PreTrainedModel]) -> None:
    AttentionInterface.register("by_samples", by_samples)
    AttentionMaskInterface.register("by_samples", lambda *_, **__: None)
    expected, model = make_model(), make_model()
    model.set_attn_implementation("by_samples")
    ids, _ = pad([ROWS[0] + ROWS[1], ROWS[2]], 0)
    positions, _ = pad([[0, 1, 2, 0], [0, 1, 2, 3, 4]], 0)
    with torch.no_grad():
        found = packed_hidden_states(model, ids, positions)
        assert torch.allclose(found, packed_hidden_states(expected, ids, positions), atol=1e-5)
    assert keeps_apart(model)
    check_head(model)


@pytest.mark.parametrize("mixed", [True, False])
def test_the_head_is_checked_in_bfloat16(make_model: Callable[..., PreTrainedModel], mixed: bool) -> None:
    """Kernels round differently by more than float32 allows, and a bent head is still told from it."""
    model = make_model() if mixed else make_model().to(torch.bfloat16)
    head = model.get_output_embeddings()
    plain, calls = head.forward, []

    def rounding(hidden: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return plain(hidden) * (1 + 0.01 * (len(calls) % 2))

    head.forward = rounding
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        check_head(model)
        head.forward = lambda hidden: plain(hidden) * (1 + 0.1 * (len(calls) % 2 or bool(calls.append(1))))
        with pytest.raises(NotImplementedError):
            check_head(model)


def test_a_model_that_reads_on_over_a_border_is_not_packed(make_model: Callable[..., PreTrainedModel]) -> None:
    model = make_model()
    decoder = model.get_decoder()
    plain = decoder.forward
    decoder.forward = lambda position_ids, **arguments: plain(**arguments)
    assert not keeps_apart(model)


def test_an_architecture_that_bends_its_logits_is_refused(make_model: Callable[..., PreTrainedModel]) -> None:
    model = make_model()
    check_head(model)
    plain = model.forward

    def capped(*args, **kwargs):
        output = plain(*args, **kwargs)
        output.logits = output.logits.tanh()
        return output

    model.forward = capped
    with pytest.raises(NotImplementedError, match="LlamaForCausalLM"):
        check_head(model)


def test_kernels_equal_their_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    values = 5 * torch.randn(3, 7, 50, generator=torch.Generator().manual_seed(0))
    chosen = torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(1))
    ours = kernels.selective_log_softmax(values, chosen), kernels.entropy_from_logits(values)
    assert kernels.entropy_from_logits.__module__.startswith("trl")
    real = builtins.__import__

    def without_trl(name: str, *args, **kwargs):
        if name.startswith("trl"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without_trl)
        importlib.reload(kernels)
        assert not kernels.entropy_from_logits.__module__.startswith("trl")
        fallback = kernels.selective_log_softmax(values, chosen), kernels.entropy_from_logits(values)
    importlib.reload(kernels)
    for one, other in zip(ours, fallback, strict=True):
        assert one.shape == other.shape == (3, 7)
        assert torch.allclose(one, other, atol=1e-5)


def test_kernels_on_a_known_distribution() -> None:
    values = torch.tensor([[0.5, 0.25, 0.25]]).log() + 3
    assert kernels.entropy_from_logits(values).item() == pytest.approx(1.0397207708)  # 1.5 ln 2
    assert kernels.selective_log_softmax(values[None], torch.tensor([[1]])).item() == pytest.approx(-1.3862943611)
