"""The vLLM engine over a stand-in that has vLLM's interface and answers with transformers."""

import sys
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.vllm import vllm_generator
from ctrlrec.lm.chat_format import ChatFormat

PROMPTS = [[1, 20, 30, 4, 2], [1, 77, 4, 2], [1, 90, 91, 92, 93, 94, 95, 4, 2]]


class LLM:
    """Loads what was saved, as vLLM does, and generates greedily."""

    def __init__(self, model: str, max_model_len: int, seed: int, generation_config: str):
        assert generation_config == "vllm" and max_model_len == 640 and seed == 7
        self.model = AutoModelForCausalLM.from_pretrained(model).eval()
        assert AutoTokenizer.from_pretrained(model).chat_template

    def generate(self, prompts: Sequence[dict[str, Any]], settings: Any, use_tqdm: bool) -> list[Any]:
        import torch

        assert settings.temperature == 0.0
        replies = []
        for prompt in prompts:
            ids = torch.tensor([prompt["prompt_token_ids"]])
            written = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=settings.max_tokens,
                eos_token_id=settings.stop_token_ids, pad_token_id=0,
            )  # fmt: skip
            replies.append(
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(written[0, ids.shape[1] :].tolist()))])
            )
        return replies


def test_it_answers_as_transformers_does(
    make_model: Callable[..., PreTrainedModel], chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    stand_in = ModuleType("vllm")
    stand_in.LLM, stand_in.SamplingParams = LLM, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    model = make_model()
    answers = vllm_generator(model, chat_format, 640, 7)(PROMPTS, 6)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        written = list(prompt)
        for token in answer:
            with torch.no_grad():
                assert int(model(input_ids=torch.tensor([written])).logits[0, -1].argmax()) == token
            written.append(token)
        assert len(answer) == 6 or answer[-1] == chat_format.end


def test_without_vllm_the_extra_is_named(
    make_model: Callable[..., PreTrainedModel], chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(CtrlRecError, match=r"ctrlrec\[vllm\]"):
        vllm_generator(make_model(), chat_format, 640, 7)
