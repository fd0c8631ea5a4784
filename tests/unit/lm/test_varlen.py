"""``model.attention=varlen``, with a stand-in for the kernel, which a CPU does not have."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from ctrlrec.errors import CtrlRecError
from ctrlrec.lm import backbone, checks, varlen
from ctrlrec.lm.scoring import check_head, hidden_states, keeps_apart, packed_hidden_states, pad

SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
IDS = torch.randint(3, 64, (2, 17), generator=torch.Generator().manual_seed(0))
# Two samples and padding; one sample.
PLACES = torch.tensor([[*range(5), *range(12)], [*range(17)]])
Kernel = list[list[int]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Where samples began in each call."""
    calls: Kernel = []

    def kernel(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, begins: torch.Tensor, also: torch.Tensor,
        longest: int, too: int, *, scale: float, window_size: tuple[int, int], enable_gqa: bool,
    ) -> torch.Tensor:  # fmt: skip
        assert begins is also and longest == too and begins.dtype == torch.int32 and enable_gqa
        assert query.dtype == key.dtype == value.dtype
        calls.append(begins.tolist())
        pieces = []
        for begin, end in itertools.pairwise(begins.tolist()):
            assert end - begin <= longest
            length = torch.arange(end - begin)
            behind = length[:, None] - length
            seen = (behind >= 0) & ((window_size[0] < 0) | (behind <= window_size[0]))
            parts = (part[begin:end].transpose(0, 1) for part in (query, key, value))
            mixed = scaled_dot_product_attention(*parts, attn_mask=seen, scale=scale, enable_gqa=True)
            pieces.append(mixed.transpose(0, 1))
        return torch.cat(pieces)

    backbone.register_varlen()
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    return calls


def pair(kind: Any = LlamaForCausalLM, shape: Any = LlamaConfig, **changes: Any) -> tuple[PreTrainedModel, ...]:
    models = []
    for attention in ("eager", "varlen"):
        torch.manual_seed(1)
        models.append(kind(shape(**SHAPE, **changes, attn_implementation=attention)).eval())
    return tuple(models)


@pytest.mark.parametrize("window", [None, 4])
def test_packed_samples_and_their_gradients_are_those_of_a_mask(told: Kernel, window: int | None) -> None:
    kinds = (MistralForCausalLM, MistralConfig) if window else ()
    found = []
    for model in pair(*kinds, **({"sliding_window": window} if window else {})):
        hidden = packed_hidden_states(model, IDS, PLACES)
        (hidden * torch.linspace(-1, 1, 32)).sum().backward()
        found.append([hidden, *(one.grad for one in model.get_decoder().parameters())])
    assert told == [[0, 5, 17, 34]] * 2  # a call for each layer; all rows are one sequence
    for expected, same in zip(*found, strict=True):
        assert torch.allclose(same, expected, rtol=1e-4, atol=1e-5 * float(expected.detach().abs().max()))
    assert keeps_apart(model)
    check_head(model)


def test_padded_rows_are_a_sample_each(told: Kernel) -> None:
    expected, model = pair(MistralForCausalLM, MistralConfig, sliding_window=4)
    with torch.no_grad():
        assert torch.allclose(hidden_states(model, IDS), hidden_states(expected, IDS), atol=1e-5)
    assert told == [[0, 17, 34]] * 2


def test_answers_of_transformers_hide_padding_on_the_left(told: Kernel) -> None:
    prompts = [[7, 8, 9, 10, 11], [12, 13], [14, 15, 16]]
    ids, mask = pad(prompts, 0, left=True)
    expected, model = (
        one.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False, eos_token_id=0, pad_token_id=0)
        for one in pair()
    )
    assert torch.equal(model, expected) and told == []


def test_queries_that_rotations_raised_to_float32_go_back(told: Kernel) -> None:
    """Under autocast weights in float32 leave rotations in float32 and values in bfloat16."""
    _, model = pair()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.isfinite(packed_hidden_states(model, IDS, PLACES)).all()
    assert len(told) == 2


@pytest.mark.parametrize(
    ("precision", "dtype", "installed", "said"),
    [
        (
            "32-true",
            "float32",
            True,
            r"model\.attention=varlen trainer\.precision=32-true .* computes in bfloat16 alone",
        ),
        ("bf16-mixed", "float32", False, r"needs the package torch\.nn\.attention\.varlen, which is not installed"),
        ("bf16-mixed", "float32", True, None),
        ("32-true", "bfloat16", True, None),
    ],
)
def test_what_cannot_be_computed_is_refused(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: str, installed: bool, said: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(checks, "find_spec", lambda _: installed or None)
    config: Any = SimpleNamespace(
        model=SimpleNamespace(attention="varlen", dtype=dtype),
        trainer=SimpleNamespace(accelerator="auto", precision=precision),
    )
    if said is None:
        checks._check_attention(config)
        return
    with pytest.raises(CtrlRecError, match=said):
        checks._check_attention(config)
