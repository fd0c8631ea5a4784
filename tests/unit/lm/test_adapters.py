"""Adapters: their size, their gradients, their merging and their state."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.adapters import (
    ACTOR,
    CRITIC,
    attach,
    check_base,
    load_trainable_state,
    lost_share,
    merge,
    sample_weights,
    save_adapters,
    trainable_state,
    using,
    with_actor_and_critic,
    with_adapter,
)

Make = Callable[..., PreTrainedModel]
IDS = torch.tensor([[5, 6, 7, 40, 300]])


def share(model: torch.nn.Module) -> float:
    """Trainable weights as a percentage of the base's."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    base = sum(parameter.numel() for parameter in model.parameters() if not parameter.requires_grad)
    return 100 * trained / base


def llama_2_7b() -> LlamaForCausalLM:
    shape = LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
    )
    with torch.device("meta"):
        return LlamaForCausalLM(shape)


def test_trained_shares_are_those_of_the_paper() -> None:
    assert round(share(with_adapter(llama_2_7b(), 16, 8)), 1) == 0.6
    assert round(share(with_actor_and_critic(llama_2_7b(), 4, 2)), 1) == 0.3


def randomise(model: torch.nn.Module) -> None:
    """Adapters start as no change at all; give them one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))


def test_all_linear_layers_but_the_head_are_adapted(make_model: Make) -> None:
    names = [name for name in trainable_state(with_adapter(make_model(), 2, 2)) if "lora_A" in name]
    kinds = {name.split(".lora_A")[0].rsplit(".", 1)[-1] for name in names}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(names) == 2 * 7


def test_both_adapters_keep_their_gradients_whatever_is_switched(make_model: Make) -> None:
    model = with_actor_and_critic(make_model(), 2, 2)
    expected = {name for name, _ in model.named_parameters() if ".lora_" in name}
    assert len(expected) == 2 * 2 * 7 * 2

    def trained() -> set[str]:
        return {name for name, parameter in model.named_parameters() if parameter.requires_grad}

    assert trained() == expected
    for adapter in (ACTOR, CRITIC, None, ACTOR, None, CRITIC):
        with using(model, adapter):
            if adapter is not None:
                assert trained() == expected
        assert trained() == expected


def test_one_backward_pass_over_both_reaches_both(make_model: Make) -> None:
    model = with_actor_and_critic(make_model(), 2, 2)
    randomise(model)
    loss = torch.zeros(())
    for adapter in (ACTOR, CRITIC):
        with using(model, adapter):
            loss = loss + model(input_ids=IDS).logits.square().mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


def test_actor_critic_and_reference_are_three_models(make_model: Make) -> None:
    plain = make_model()(input_ids=IDS).logits
    model = with_actor_and_critic(make_model(), 2, 2)
    randomise(model)
    outputs = {}
    for adapter in (ACTOR, CRITIC, None):
        with using(model, adapter):
            outputs[adapter] = model(input_ids=IDS).logits
    assert torch.equal(outputs[None], plain)
    assert not torch.allclose(outputs[ACTOR], outputs[CRITIC], atol=1e-2)
    assert not torch.allclose(outputs[ACTOR], plain, atol=1e-2)


def test_merging_equals_the_adapted_forward_pass(make_model: Make, tmp_path: Path) -> None:
    adapted = with_adapter(make_model(), 4, 8)
    randomise(adapted)
    expected = adapted(input_ids=IDS).logits
    adapted.save_pretrained(str(tmp_path))
    merged = merge(make_model(), tmp_path)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert torch.allclose(merged(input_ids=IDS).logits, expected, atol=1e-4)
    assert merge(make_model().to(torch.bfloat16), tmp_path).dtype == torch.bfloat16


def test_the_actor_alone_can_be_merged_from_what_rl_saves(make_model: Make, tmp_path: Path) -> None:
    model = with_actor_and_critic(make_model(), 2, 2)
    randomise(model)
    with using(model, ACTOR):
        expected = model(input_ids=IDS).logits
    model.save_pretrained(str(tmp_path))
    merged = merge(make_model(), tmp_path / ACTOR)
    assert torch.allclose(merged(input_ids=IDS).logits, expected, atol=1e-4)


@pytest.mark.parametrize(("dtype", "size", "low", "high"), [
    (torch.float32, 1e-4, -0.01, 0.01), (torch.bfloat16, 1e-4, 0.5, 1.0), (torch.bfloat16, 0.3, -0.01, 0.01),
])  # fmt: skip
def test_what_folding_loses_is_known_before(
    make_model: Make, tmp_path: Path, dtype: torch.dtype, size: float, low: float, high: float
) -> None:
    adapted = with_adapter(make_model().to(dtype), 4, 8)
    assert lost_share(adapted) == 0  # a new adapter adds nothing
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=size)
    adapted.save_pretrained(str(tmp_path))
    assert low <= lost_share(attach(make_model().to(dtype), tmp_path)) <= high


def test_merging_rounds_once_and_touches_nothing_else(make_model: Make, tmp_path: Path) -> None:
    """Sums in float32 whatever the weights are; the frequencies of positions, float32 always, stay what they were."""
    adapted = with_adapter(make_model(), 4, 8)
    randomise(adapted)
    adapted.save_pretrained(str(tmp_path))
    make_model().to(torch.bfloat16).save_pretrained(tmp_path / "base")
    base, exact, merged = (LlamaForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.bfloat16) for _ in range(3))
    exact, merged = merge(exact.float(), tmp_path), merge(merged, tmp_path)
    for name, tensor in exact.state_dict().items():
        assert torch.equal(merged.state_dict()[name], tensor.to(torch.bfloat16)), name
    assert torch.equal(merged.model.rotary_emb.inv_freq, base.model.rotary_emb.inv_freq)


def test_state_goes_back_by_name_and_never_in_part(make_model: Make) -> None:
    model = with_actor_and_critic(make_model(), 2, 2)
    randomise(model)
    state = {name: tensor.clone() for name, tensor in trainable_state(model).items()}
    other = with_actor_and_critic(make_model(), 2, 2)
    load_trainable_state(other, state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in trainable_state(other).items())
    with pytest.raises(CtrlRecError, match="another model"):
        load_trainable_state(with_adapter(make_model(), 2, 2), state)
    state.popitem()
    with pytest.raises(CtrlRecError, match="1 names differ"):
        load_trainable_state(other, state)


def test_an_adapter_meets_only_the_model_and_tokenizer_it_was_made_for(
    make_model: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base = sample_weights(make_model())
    save_adapters(with_actor_and_critic(make_model(), 2, 2), tmp_path, base, tokenizer)
    for adapter in (ACTOR, CRITIC):  # the same file whatever order the process gives its sets
        targets = json.loads((tmp_path / adapter / "adapter_config.json").read_text())["target_modules"]
        assert targets == sorted(targets) and len(targets) == 14
    check_base(tmp_path, make_model(), tokenizer)
    check_base(tmp_path, make_model().to(torch.bfloat16), tokenizer)  # another precision is the same model
    with pytest.raises(CtrlRecError, match=r"made for another model: .* check model\.path and model.revision"):
        check_base(tmp_path, make_model(seed=1), tokenizer)
    touched = make_model()
    with torch.no_grad():
        touched.model.layers[1].mlp.up_proj.weight.mul_(1.1)
    with pytest.raises(CtrlRecError, match=r"1 of \d+ weights differ, first model.layers.1.mlp.up_proj.weight"):
        check_base(tmp_path, touched, tokenizer)
    larger = make_model()
    larger.resize_token_embeddings(600)
    with pytest.raises(CtrlRecError, match="made for another model"):
        check_base(tmp_path, larger, tokenizer)
    for change in ("chat_template", "vocabulary"):
        other = copy.deepcopy(tokenizer)
        if change == "chat_template":
            other.chat_template = "{{ messages }}"
        else:
            other.add_tokens(["<|new|>"])
        with pytest.raises(CtrlRecError, match="another tokenizer or chat template"):
            check_base(tmp_path, make_model(), other)


def test_an_adapter_of_an_earlier_version_is_taken_with_a_warning(
    make_model: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_base(tmp_path, make_model(), tokenizer)
    assert "does not say which model it was made for" in caplog.text


def test_weights_of_any_size_are_sampled() -> None:
    """The embedding of SmolLM2-135M has more entries than float32 can count."""
    large = torch.nn.Module()
    large.register_buffer("embedding", torch.ones(1).expand(49152 * 576))
    large.register_buffer("scalar", torch.tensor(2.0))
    sample = sample_weights(large)  # type: ignore[arg-type]
    assert sample["embedding"].tolist() == [1.0] * 64 and sample["scalar"].tolist() == [2.0]


def test_a_switch_walks_over_no_modules_and_equals_pefts_own(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_actor_and_critic(make_model(), 2, 2)
    randomise(model)
    expected = {}
    for adapter in (ACTOR, CRITIC):
        model.base_model.set_adapter(adapter)
        expected[adapter] = model(input_ids=IDS).logits
    with model.disable_adapter():
        expected[None] = model(input_ids=IDS).logits
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with using(model, ACTOR):
        pass

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a walk over the whole model")

    for adapter in (ACTOR, CRITIC, None, CRITIC, None):
        with monkeypatch.context() as patch:
            for name in ("modules", "named_modules", "parameters", "named_parameters"):
                patch.setattr(torch.nn.Module, name, forbidden)
            switch = using(model, adapter)
            switch.__enter__()
        assert torch.equal(model(input_ids=IDS).logits, expected[adapter])
        switch.__exit__(None, None, None)
    assert not any(parameter.requires_grad for parameter in model.parameters())  # a switch changes none


def test_an_adapter_stays_in_force_and_an_unknown_one_is_refused(make_model: Make) -> None:
    model = with_actor_and_critic(make_model(), 2, 2)
    randomise(model)
    with using(model, CRITIC):
        inside = model(input_ids=IDS).logits
    with using(model, None):
        pass
    assert torch.equal(model(input_ids=IDS).logits, inside)
    with pytest.raises(ValueError, match="no adapter 'judge', only actor, critic"), using(model, "judge"):
        pass
