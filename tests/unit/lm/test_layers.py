"""Activation checkpointing: the same gradients and answers, from a fraction of what is kept."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.adapters import ACTOR, using, with_actor_and_critic, with_adapter
from ctrlrec.lm.layers import checkpoint_activations, compile_layers, repeated_layers
from ctrlrec.lm.scoring import hidden_states

IDS = torch.arange(7, 87).view(2, 40)


def learnt(model: torch.nn.Module, **inputs: torch.Tensor) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of a loss, and how many bytes its backward pass had kept."""
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    torch.manual_seed(5)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**inputs, use_cache=False).logits.log_softmax(-1)[..., 3].sum()
    loss.backward()
    return {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None}, sum(kept)


def dropping_t5() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    shape = T5Config(
        vocab_size=100, d_model=32, d_kv=16, d_ff=64, num_layers=4, num_heads=2, dropout_rate=0.3,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return T5ForConditionalGeneration(shape).train()


def test_an_adapter_gets_the_same_gradients(make_model: Callable[..., PreTrainedModel]) -> None:
    plain, anew = make_model(scale=1), make_model(scale=1)
    checkpoint_activations(anew)
    torch.manual_seed(1)
    expected, kept = learnt(with_adapter(plain, 4, 8), input_ids=IDS)
    torch.manual_seed(1)
    found, kept_anew = learnt(with_adapter(anew, 4, 8), input_ids=IDS)
    assert len(expected) == 28  # A and B of seven matrices in each of two layers
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert kept_anew < kept / 2


def test_dropout_is_drawn_anew_as_it_was() -> None:
    plain, anew = dropping_t5(), dropping_t5()
    checkpoint_activations(anew)
    asked = {"input_ids": IDS, "labels": IDS[:, :9].contiguous()}
    expected, kept = learnt(plain, **asked)
    found, kept_anew = learnt(anew, **asked)
    assert found.keys() == expected.keys() and len(repeated_layers(anew)) == 8
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())
    assert kept_anew < kept / 2
    undropped, _ = learnt(dropping_t5().eval(), **asked)
    assert not torch.equal(undropped["shared.weight"], expected["shared.weight"])


def test_answers_use_the_cache_as_ever(make_model: Callable[..., PreTrainedModel]) -> None:
    plain, anew = make_model(), make_model()
    checkpoint_activations(anew)
    asked = []
    first = repeated_layers(anew)[0]
    first.register_forward_pre_hook(lambda _, given: asked.append(given[0].shape[1]))
    told = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    assert torch.equal(anew.generate(IDS, **told), plain.generate(IDS, **told))
    assert asked == [40, 1, 1, 1, 1, 1]


def test_compiled_layers_give_the_same_numbers_from_few_graphs(make_model: Callable[..., PreTrainedModel]) -> None:
    """Layers share graphs, which hold for every length; the first one, whose input has no gradient, has its own."""
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(len(inputs))
        return graph.forward

    torch._dynamo.reset()
    found = []
    for compiled in (False, True):
        base = make_model(scale=1)
        if compiled:
            compile_layers(base, backend)
            checkpoint_activations(base)
        torch.manual_seed(1)
        model = with_actor_and_critic(base, 4, 8, critic=False)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        numbers = []
        for shape in ((2, 40), (3, 21), (5, 16)):
            model.zero_grad()
            with using(model, ACTOR):
                hidden = hidden_states(model, IDS.flatten()[: shape[0] * shape[1]].view(shape))
                (hidden * torch.linspace(-1, 1, 32)).sum().backward()
            numbers += [hidden.detach(), *(one.grad for one in model.parameters() if one.grad is not None)]
        with torch.no_grad(), using(model, None):
            numbers += [hidden_states(model, IDS[:, :length]) for length in (9, 33)]
        found.append(numbers)
    assert len(found[0]) == len(found[1]) == 3 * 29 + 2
    assert all(torch.equal(plain, fast) for plain, fast in zip(*found, strict=True))
    assert len(graphs) == 3
    base.generate(IDS, max_new_tokens=4, min_new_tokens=4, do_sample=False)
    assert len(graphs) == 3  # answers read a cache


def test_an_architecture_that_names_no_layers_is_refused() -> None:
    with pytest.raises(CtrlRecError, match=r"Linear names no layers .* trainer\.activation_checkpointing=false"):
        checkpoint_activations(torch.nn.Linear(2, 2))  # type: ignore[arg-type]
