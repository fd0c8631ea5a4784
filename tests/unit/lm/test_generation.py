"""Answers: greedy and sampled, batched and alone."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from ctrlrec.lm.adapters import with_actor_and_critic
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.generation import generate, generate_many

Make = Callable[..., PreTrainedModel]
PROMPTS = [[1, 20, 30, 4, 2], [1, 77, 4, 2], [1, 90, 91, 92, 93, 94, 95, 4, 2], [1, 4, 2]]


def test_greedy_answers_do_not_depend_on_the_batch(make_model: Make, chat_format: ChatFormat) -> None:
    model = make_model()
    together = generate(model, chat_format, PROMPTS, 12)
    assert together == [generate(model, chat_format, [prompt], 12)[0] for prompt in PROMPTS]
    seen: list[int] = []
    assert generate_many(model, chat_format, PROMPTS, 12, 3, seen.append) == together
    assert seen == [3, 1]
    assert generate_many(model, chat_format, [], 12, 3) == []


def test_greedy_takes_the_likeliest_token(make_model: Make, chat_format: ChatFormat) -> None:
    model = make_model()
    for prompt, answer in zip(PROMPTS, generate(model, chat_format, PROMPTS, 8), strict=True):
        written = list(prompt)
        for token in answer:
            assert int(model(input_ids=torch.tensor([written])).logits[0, -1].argmax()) == token
            written.append(token)


def test_answers_stop_behind_the_end_token(make_model: Make, chat_format: ChatFormat) -> None:
    model = make_model()
    torch.manual_seed(0)
    answers = generate(model, chat_format, PROMPTS * 40, 60, temperature=5.0)
    lengths = Counter(len(answer) for answer in answers)
    assert len(lengths) > 3
    for answer in answers:
        assert chat_format.end not in answer[:-1]
        assert len(answer) == 60 or answer[-1] == chat_format.end
        assert 1 <= len(answer) <= 60


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize(
    "own",
    [{}, {"repetition_penalty": 3.0, "min_p": 0.3, "top_k": 2, "top_p": 0.5, "suppress_tokens": [300, 301]}],
)
def test_samples_follow_the_full_distribution_at_the_temperature(
    make_model: Make, chat_format: ChatFormat, own: dict[str, Any], adapted: bool
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
    drawn = torch.tensor([answer[0] for answer in generate(sampler, chat_format, [prompt] * count, 1, temperature=2.0)])
    observed = torch.bincount(drawn, minlength=len(expected)) / count
    # Total variation of 2000 draws from 512 values is below sqrt(512 / (2 pi 2000)) on average.
    assert float((observed - expected).abs().sum()) / 2 < 0.25
    assert model.generation_config.to_dict() == kept
