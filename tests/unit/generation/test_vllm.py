"""The vLLM engine over a stand-in that has vLLM's interface and answers with transformers."""

import sys
from collections.abc import Callable

import pytest
from transformers import PreTrainedModel
from vllm_stand_in import install_stand_in

from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.vllm import vllm_generator
from ctrlrec.lm.chat_format import ChatFormat

PROMPTS = [[1, 20, 30, 4, 2], [1, 77, 4, 2], [1, 90, 91, 92, 93, 94, 95, 4, 2]]


def test_it_answers_as_transformers_does(
    make_model: Callable[..., PreTrainedModel], chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    install_stand_in(monkeypatch)
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
