"""The decoder gives what transformers' ``generate`` gives, whatever the architecture, batch and order of leaving."""

import random
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from answering import engine_of, generate
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ctrlrec.generation.decoder import decode as decoding
from ctrlrec.generation.decoder.network import _FEW_ROWS, unsupported
from ctrlrec.generation.engines.base import Prompt, in_order
from ctrlrec.generation.sample import Sample
from ctrlrec.lm.adapters import ACTOR, CRITIC, using, with_actor_and_critic

END = 3
FORMAT: Any = SimpleNamespace(pad=0, ends={END}, encoder_decoder=False)
SHAPE = {
    "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "max_position_embeddings": 256, "bos_token_id": None, "eos_token_id": None,
    "pad_token_id": None,
}  # fmt: skip
ROTATION = {"rope_theta": 100.0}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)),
    "untied": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False)),
    "grouped": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE | {"num_key_value_heads": 2}, head_dim=12)),
    "biased": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True, hidden_act="gelu")),
    "llama3": lambda: LlamaForCausalLM(
        LlamaConfig(
            **SHAPE,
            rope_parameters=ROTATION
            | {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        )
    ),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(**SHAPE | {"num_key_value_heads": 1}, sliding_window=None, tie_word_embeddings=False)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE | {"num_key_value_heads": 2}, use_sliding_window=False)),
}


def decode(*arguments: Any, **options: Any) -> list[Sample]:
    return in_order(decoding.decode(*arguments, **options))


def made(name: str) -> PreTrainedModel:
    """A model whose predictions differ clearly, biases included, so that ties are out of the question."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()  # type: ignore[return-value]


def asked(count: int, longest: int = 40) -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randrange(4, 50) for _ in range(rng.randint(1, longest))] for _ in range(count)]


@pytest.mark.parametrize("name", MODELS)
def test_greedy_answers_are_those_of_generate(name: str) -> None:
    model, prompts = made(name), asked(_FEW_ROWS + 8)  # once some have left, few rows
    # A token that a long answer holds in its middle, so that answers end at different lengths.
    end = max(decode(model, prompts, {END}, 20), key=lambda answer: len(answer.tokens)).tokens[9]
    expected = generate(model, SimpleNamespace(pad=0, ends={end}, encoder_decoder=False), prompts, 20, "hf")  # type: ignore[arg-type]
    assert len({len(answer.tokens) for answer in expected}) > 1
    assert unsupported(model) is None
    for rows in (None, 1, 5):
        assert decode(model, prompts, {end}, 20, rows=rows) == expected


@pytest.mark.parametrize("blocks", [{"cpu": 7}, {}])
def test_prompts_read_in_parts_and_rows_that_wait_change_nothing(
    monkeypatch: pytest.MonkeyPatch, blocks: dict[str, int]
) -> None:
    model, prompts = made("grouped"), asked(12)
    expected = decode(model, prompts, {END}, 70)
    monkeypatch.setattr(decoding, "_PREFILL", {"cpu": 50})
    monkeypatch.setattr(decoding, "_BLOCK", blocks)
    monkeypatch.setattr(decoding, "_PATIENCE", {})
    assert decode(model, prompts, {END}, 70, rows=5) == expected


def test_a_gpus_cache_is_made_once_with_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_BLOCK", {})
    reserved: list[int] = []
    reserve = decoding._Batch._reserve

    def reserving(self: Any, length: int) -> None:
        reserve(self, length)
        reserved.append(self.mask.shape[-1])
        for keys, values in zip(self.keys, self.values, strict=True):
            assert keys.shape[-1] == values.shape[-2] == reserved[-1]

    monkeypatch.setattr(decoding._Batch, "_reserve", reserving)
    prompts = asked(30)
    decode(made("grouped"), prompts, {END}, 70, rows=20)
    assert set(reserved) == {max(map(len, prompts)) + 70}


def test_a_cache_that_grows_is_not_there_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("grouped")
    batch = decoding._Batch(decoding.Network(model, None), 4, {END}, 10, 390, None, None)
    batch._reserve(64)
    old = [weakref.ref(tensor) for tensor in (*batch.keys, *batch.values)]
    alive: list[int] = []
    pad = decoding.functional.pad

    def padding(*arguments: Any, **options: Any) -> torch.Tensor:
        alive.append(sum(tensor() is not None for tensor in old))
        return pad(*arguments, **options)

    monkeypatch.setattr(decoding.functional, "pad", padding)
    batch._reserve(65)
    assert alive == [4, 3, 2, 1, 0]


def test_what_is_finished_when_memory_runs_out_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = made("tied"), asked(12)
    expected = decode(model, prompts, {END}, 30, samples=2)
    assert len({len(answer.tokens) for answer in expected}) > 1
    step, steps = decoding._Batch.step, []

    def scarce(self: Any) -> None:
        steps.append(self.rows)
        if self.rows > 3 and len(steps) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(self)

    monkeypatch.setattr(decoding._Batch, "step", scarce)
    engine = engine_of("native", model, FORMAT, 30, batch_size=7)
    again = list(engine.answers([Prompt(prompt) for prompt in prompts], 2))
    assert in_order(again) == expected
    assert len(again) == 24  # none was made twice
    assert set(steps) == {7, 3}


class Countdown:
    """In place of a network: the token after n is n - 1, and after 49 another 49."""

    dtype, device, kv_heads, heads, width, scale, layers = torch.float32, torch.device("cpu"), 1, 1, 2, 1.0, ()

    def __init__(self, *_: Any):
        pass

    def reach(self, length: int) -> None:
        pass

    def forward(self, ids: torch.Tensor, *_: Any) -> torch.Tensor:
        return ids[..., None]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        last = hidden[..., 0]
        return torch.nn.functional.one_hot(torch.where(last == 49, 49, last - 1).clamp(min=0), 50).float()


@pytest.mark.parametrize("patience", [1, 8])
def test_an_answer_at_its_limit_waits_for_others_to_leave_with(monkeypatch: pytest.MonkeyPatch, patience: int) -> None:
    """The first answer is alone at the limit while the others, begun later, have half of theirs to go."""
    monkeypatch.setattr(decoding, "_PATIENCE", {"cpu": patience})
    monkeypatch.setattr(decoding, "Network", Countdown)
    prompts = [[49], *[[END + 20]] * 63, *[[49]] * 63]
    answers = [answer.tokens for answer in decode(made("tied"), prompts, {END}, 40, rows=64)]
    assert answers == [[49] * 40, *[list(range(END + 19, END - 1, -1))] * 63, *[[49] * 40] * 63]


@pytest.mark.parametrize("temperature", [0.7, 1.5])
@pytest.mark.parametrize("name", ["grouped", "qwen2"])
def test_log_probs_are_those_of_what_was_sampled(name: str, temperature: float) -> None:
    model, prompts = made(name), asked(5)
    torch.manual_seed(1)
    answers = decode(model, prompts, {END}, 40, temperature, samples=3, rows=6)
    assert len({tuple(answer.tokens) for answer in answers}) == 15
    for index, answer in enumerate(answers):
        prompt = prompts[index // 3]
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([prompt + answer.tokens])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(scores / temperature, -1).gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(answer.log_probs), expected, atol=1e-4)
        assert END not in answer.tokens[:-1] and (len(answer.tokens) == 40 or answer.tokens[-1] == END)


def test_samples_come_from_torchs_seed_alone() -> None:
    model, prompts = made("tied"), asked(4)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(decode(model, prompts, {END}, 20, 1.0, samples=2))
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_rare_token_is_drawn_as_often_as_it_should_be() -> None:
    logits = torch.zeros(1, 40)
    logits[0, 7] = -3.0
    logits[0, [0, 39]] = -torch.inf
    torch.manual_seed(0)
    tokens, log_probs = decoding._choose(logits.expand(20000, -1), 1.0)
    share = float(torch.softmax(logits[0], -1)[7])
    assert float((tokens == 7).float().mean()) == pytest.approx(share, abs=4 * (share / 20000) ** 0.5)
    assert not ((tokens == 0) | (tokens == 39)).any()
    assert torch.allclose(log_probs, torch.log_softmax(logits[0], -1)[tokens], atol=1e-5)


def test_the_adapter_in_use_decodes() -> None:
    """Actor, critic and reference each answer as generate does with them, and the model is left as it was."""
    model = with_actor_and_critic(made("grouped"), 4, 8)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prompts, seen = asked(4), []
    for adapter in (ACTOR, CRITIC, None):
        with using(model, adapter):
            answers = decode(model, prompts, {END}, 30)
            assert answers == generate(model, FORMAT, prompts, 30, "hf")
        seen.append(answers)
    assert seen[0] != seen[1] != seen[2] != seen[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("mixed", [True, False])
def test_bfloat16_stays_close(mixed: bool) -> None:
    """Weights in float32 under autocast, or in bfloat16: log-probabilities near those of float32."""
    model, prompts = made("tied"), asked(6)
    if not mixed:
        model = model.to(torch.bfloat16)  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        answers = decode(model, prompts, {END}, 10, 2.0)
    model = model.float()  # type: ignore[operator]
    gaps = []
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([prompt + answer.tokens])).logits[0, len(prompt) - 1 : -1]
        expected = torch.log_softmax(scores / 2.0, -1).gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
        gaps += (torch.tensor(answer.log_probs) - expected).abs().tolist()
    assert 0 < sum(gaps) / len(gaps) < 0.1


@pytest.mark.parametrize(("dtype", "mixed"), [("bfloat16", True), ("bfloat16", False), ("float32", True)])
def test_a_young_adapter_is_not_rounded_away(dtype: str, mixed: bool) -> None:
    """What RL teaches at first adds to each weight less than bfloat16 tells apart, and to an answer a good deal."""
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SHAPE | {"hidden_size": 256, "initializer_range": 0.1})).eval()
    with torch.no_grad():
        base.get_input_embeddings().weight.add_(1)  # a direction that all states share and that the actor reads
    base = base.to(torch.bfloat16).to(getattr(torch, dtype))  # type: ignore[arg-type,assignment,operator]
    model = with_actor_and_critic(base, 4, 8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f"lora_A.{ACTOR}" in name:
                parameter.fill_(1 / 16)
            if f"lora_B.{ACTOR}" in name:
                parameter.normal_(std=5e-4)
    prompts = asked(20, 10)

    def scored(adapter: str | None) -> torch.Tensor:
        rows = []
        with using(model, adapter), torch.no_grad():
            for prompt, answer in zip(prompts, answers, strict=True):
                logits = model(input_ids=torch.tensor([prompt + answer.tokens])).logits[0, len(prompt) - 1 : -1]
                rows.append(torch.log_softmax(logits.float(), -1).gather(1, torch.tensor(answer.tokens)[:, None])[:, 0])
        return torch.cat(rows)

    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        with using(model, ACTOR):
            answers = decode(model, prompts, {END}, 10, 1.0)
        actor, reference = scored(ACTOR), scored(None)
    decoded = torch.tensor([value for answer in answers for value in answer.log_probs])
    learnt = actor - reference
    assert float((decoded - reference) @ learnt / learnt.square().sum()) == pytest.approx(1, abs=0.1)
    assert (decoded - actor).abs().mean() < 0.3 * learnt.abs().mean()
    assert (decoded - reference).abs().mean() > 0.7 * learnt.abs().mean()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["biased", "qwen2"])
def test_adapters_apart_stand_beside_biases(name: str, dtype: torch.dtype) -> None:
    """Under autocast the first product of an adapter shares that of the weights, if those are a copy in any case."""
    model = with_actor_and_critic(made(name).to(dtype), 4, 8)  # type: ignore[arg-type]
    torch.manual_seed(2)
    with torch.no_grad():
        for label, parameter in model.named_parameters():
            if "lora_B" in label:
                parameter.normal_(std=0.3)
    gaps, moved = [], []
    with torch.autocast("cpu", torch.bfloat16), using(model, ACTOR):
        prompts = asked(6)
        for prompt, answer in zip(prompts, decode(model, prompts, {END}, 10, 2.0), strict=True):
            for adapter, found in ((ACTOR, gaps), (None, moved)):
                with torch.no_grad(), using(model, adapter):
                    scores = model(input_ids=torch.tensor([prompt + answer.tokens])).logits[0, len(prompt) - 1 : -1]
                expected = torch.log_softmax(scores.float() / 2.0, -1).gather(1, torch.tensor(answer.tokens)[:, None])
                found += (torch.tensor(answer.log_probs) - expected[:, 0]).abs().tolist()
    assert sum(gaps) / len(gaps) < 0.1 < 0.5 * sum(moved) / len(moved)


def test_samples_of_a_prompt_share_its_reading_and_the_head_sees_last_tokens_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, prompts = made("tied"), asked(3)
    read: list[int] = []
    scored: list[int] = []
    forward, logits = decoding.Network.forward, decoding.Network.logits

    def counting(self: Any, ids: torch.Tensor, *arguments: Any) -> torch.Tensor:
        read.append(ids.shape[0] if ids.ndim == 2 else 0)
        return forward(self, ids, *arguments)

    def scoring(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        scored.append(hidden.numel() // hidden.shape[-1])
        return logits(self, hidden)

    monkeypatch.setattr(decoding.Network, "forward", counting)
    monkeypatch.setattr(decoding.Network, "logits", scoring)
    decode(model, prompts, {END}, 2, 1.0, samples=4)
    assert sum(read) == 3
    assert scored[0] == 3


def test_what_the_decoder_does_not_know_is_left_to_transformers() -> None:
    other = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=64, n_embd=16, n_layer=1, n_head=2)).eval()
    assert "GPT2LMHeadModel" in str(unsupported(other))
    windowed = MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8))
    assert unsupported(windowed) == "attention slides over a window"
    replaced = made("tied")
    replaced.get_decoder().layers[1].mlp.up_proj = torch.nn.Identity()
    assert unsupported(replaced) == "model.layers.1.mlp.up_proj is a Identity"
    assert generate(other, FORMAT, [[5, 6], [7]], 4, "auto") == generate(other, FORMAT, [[5, 6], [7]], 4, "hf")
