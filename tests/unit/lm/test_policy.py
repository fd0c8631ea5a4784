"""The model that later stages load: one merged base for all of them, and an actor of which nothing is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from answering import generate
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ctrlrec.config.schema import ModelConfig
from ctrlrec.lm.adapters import ACTOR, sample_weights, save_adapters, using, with_actor_and_critic, with_adapter
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.policy import load_policy

IDS = torch.tensor([[5, 6, 7, 40, 300]])
PROMPTS = [[1, 20, 30, 4, 2], [1, 77, 4, 2]]
Stages = Callable[[str], tuple[PeftModel, Callable[..., PreTrainedModel]]]


@pytest.fixture
def stages(
    make_model: Callable[..., PreTrainedModel],
    make_model_config: Callable[..., ModelConfig],
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> Stages:
    """By the type of weights: the model as RL leaves it after few steps, its actor active, and what loads it."""

    def made(dtype: str) -> tuple[PeftModel, Callable[..., PreTrainedModel]]:
        make_model().save_pretrained(tmp_path / "base")
        config = make_model_config(kind="pretrained", path=str(tmp_path / "base"), dtype=dtype)

        def load(*stages: str, fold: bool = False) -> PreTrainedModel:
            return load_policy(config, tmp_path, tokenizer, 0, *(tmp_path / stage for stage in stages), fold=fold)

        model = load()
        for stage, adapt, size in (("sl", with_adapter, 0.1), ("rl", with_actor_and_critic, 3e-4)):
            sample = sample_weights(model)
            adapted = adapt(model, 4, 8)
            torch.manual_seed(1)
            with torch.no_grad():
                for name, parameter in adapted.named_parameters():
                    if "lora_B" in name:
                        parameter.normal_(std=size)
            save_adapters(adapted, tmp_path / stage / "adapter", sample, tokenizer)
            if stage == "sl":
                model = load("sl")
        adapted.base_model.set_adapter(ACTOR)  # type: ignore[operator]
        return adapted.eval(), load

    return made


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@torch.no_grad()
def test_evaluation_sees_the_actor_and_the_base_that_rl_trained(
    stages: Stages, chat_format: ChatFormat, dtype: str
) -> None:
    trained, load = stages(dtype)
    policy = load("sl", "rl").eval()
    with using(trained, None):
        reference = trained(input_ids=IDS).logits
    assert torch.equal(load("sl").eval()(input_ids=IDS).logits, reference)
    expected = trained(input_ids=IDS).logits
    assert not torch.equal(expected, reference)
    if dtype == "float32":
        assert not any("lora" in name for name, _ in policy.named_parameters())
        assert torch.allclose(policy(input_ids=IDS).logits, expected, atol=1e-5)
    else:
        assert torch.equal(policy(input_ids=IDS).logits, expected)
    for engine in ("native", "hf"):
        drawn = []
        for model in (trained, policy):
            torch.manual_seed(0)
            drawn.append(generate(model, chat_format, PROMPTS, 8, engine, 1.0))
        assert [answer.tokens for answer in drawn[0]] == [answer.tokens for answer in drawn[1]]
        if engine == "native":
            assert drawn[0] == drawn[1]  # to the bit: the decoder folds as loading does


@torch.no_grad()
def test_folding_where_much_of_the_actor_is_lost_says_so(
    stages: Stages, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    _, load = stages("bfloat16")
    assert not caplog.messages
    folded = load("sl", "rl", fold=True)
    assert len(caplog.messages) == 1 and "adds to the weights is too small for bfloat16" in caplog.messages[0]
    assert not any("lora" in name for name, _ in folded.named_parameters()) and folded.dtype == torch.bfloat16
    folded.save_pretrained(tmp_path / "whole")
    again = type(folded).from_pretrained(tmp_path / "whole", dtype=torch.bfloat16)
    assert torch.equal(again(input_ids=IDS).logits, folded(input_ids=IDS).logits)


def test_folding_into_float32_loses_nothing_and_says_nothing(stages: Stages, caplog: pytest.LogCaptureFixture) -> None:
    _, load = stages("float32")
    load("sl", "rl", fold=True)
    assert not caplog.messages
