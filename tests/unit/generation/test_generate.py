"""Answers: greedy and sampled, batched and alone."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from answering import generate
from transformers import PreTrainedModel
from vllm_stand_in import install_stand_in

from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.beams import beam_search
from ctrlrec.lm.adapters import with_actor_and_critic
from ctrlrec.lm.chat_format import ChatFormat

Make = Callable[..., PreTrainedModel]
ENGINES = ("native", "hf")
PROMPTS = [[1, 20, 30, 4, 2], [1, 77, 4, 2], [1, 90, 91, 92, 93, 94, 95, 4, 2], [1, 4, 2]]


@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_answers_do_not_depend_on_the_batch(make_model: Make, chat_format: ChatFormat, engine: str) -> None:
    model = make_model()
    together = generate(model, chat_format, PROMPTS, 12, engine)
    assert together == [generate(model, chat_format, [prompt], 12, engine)[0] for prompt in PROMPTS]
    assert generate(model, chat_format, PROMPTS, 12, engine, batch_size=3) == together
    assert generate(model, chat_format, [], 12, engine, batch_size=3) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_greedy_takes_the_likeliest_token(make_model: Make, chat_format: ChatFormat, engine: str) -> None:
    model = make_model()
    for prompt, answer in zip(PROMPTS, generate(model, chat_format, PROMPTS, 8, engine), strict=True):
        written = list(prompt)
        for token in answer.tokens:
            assert int(model(input_ids=torch.tensor([written])).logits[0, -1].argmax()) == token
            written.append(token)


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_stop_behind_the_end_token(make_model: Make, chat_format: ChatFormat, engine: str) -> None:
    model = make_model()
    torch.manual_seed(0)
    answers = [answer.tokens for answer in generate(model, chat_format, PROMPTS * 4, 60, engine, 5.0, samples=10)]
    lengths = Counter(len(answer) for answer in answers)
    assert len(lengths) > 3
    for answer in answers:
        assert chat_format.end not in answer[:-1]
        assert len(answer) == 60 or answer[-1] == chat_format.end
        assert 1 <= len(answer) <= 60


@pytest.mark.parametrize("engine", [*ENGINES, "beams", "vllm"])
def test_an_answer_ends_at_the_first_of_its_ends(
    make_model: Make, chat_format: ChatFormat, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model may end a turn with another token than its tokenizer's end-of-sequence token."""
    model = make_model(scale=12.0)
    whole = [answer.tokens for answer in generate(model, chat_format, PROMPTS, 12, "hf")]
    late = next(row for row in whole if len(set(row)) > 5)
    turn = max(late[:-3], key=late.index)
    several = ChatFormat(chat_format.tokenizer, chat_format.config, ends=[turn])
    assert several.ends == {chat_format.end, turn}
    if engine == "beams":
        found = [rows[0] for rows in beam_search(model, several, PROMPTS, 12, 1)]
    else:
        if engine == "vllm":
            install_stand_in(monkeypatch)
        found = [answer.tokens for answer in generate(model, several, PROMPTS, 12, engine)]
    assert found == [row[: row.index(turn) + 1] if turn in row else row for row in whole]
    cut = found[whole.index(late)]
    assert 2 < len(cut) < 12 and cut[-1] == turn != chat_format.end
    assert several.decode(cut) == several.decode(cut[:-1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize(
    "own",
    [{}, {"repetition_penalty": 3.0, "min_p": 0.3, "top_k": 2, "top_p": 0.5, "suppress_tokens": [300, 301]}],
)
def test_samples_follow_the_full_distribution_at_the_temperature(
    make_model: Make, chat_format: ChatFormat, own: dict[str, Any], adapted: bool, engine: str
) -> None:
    """A checkpoint's own generation settings bend nothing: PPO scores the full softmax at this temperature."""
    model = make_model(scale=8.0)
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    prompt = [1, 20, 21, 4, 2]
    with torch.no_grad():
        expected = torch.softmax(model(input_ids=torch.tensor([prompt])).logits[0, -1] / 2.0, -1)
    kept = model.generation_config.to_dict()
    sampler = with_actor_and_critic(model, 2, 2) if adapted else model
    torch.manual_seed(0)
    count = 2000
    answers = generate(sampler, chat_format, [prompt], 1, engine, temperature=2.0, samples=count)
    drawn = torch.tensor([answer.tokens[0] for answer in answers])
    observed = torch.bincount(drawn, minlength=len(expected)) / count
    # Total variation of 2000 draws from 512 values is below sqrt(512 / (2 pi 2000)) on average.
    assert float((observed - expected).abs().sum()) / 2 < 0.25
    given = torch.tensor([answer.log_probs[0] for answer in answers])
    assert torch.allclose(given, expected[drawn].log(), atol=1e-4)
    assert model.generation_config.to_dict() == kept


def test_an_engine_that_does_not_know_the_model_says_so(make_model: Make, chat_format: ChatFormat) -> None:
    model = make_model()
    expected = generate(model, chat_format, PROMPTS, 5, "hf")
    model.config.rope_parameters["rope_type"] = "dynamic"
    with pytest.raises(CtrlRecError, match=r"generation\.engine=native: rotary embeddings of type dynamic"):
        generate(model, chat_format, PROMPTS, 5, "native")
    assert generate(model, chat_format, PROMPTS, 5, "auto") == expected
