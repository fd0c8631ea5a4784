"""The vLLM engine over a stand-in that has vLLM's interface and answers with transformers."""

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from ctrlrec.generation.generate import generate
from ctrlrec.generation.vllm import vllm_generator
from transformers import PreTrainedModel
from vllm_stand_in import install_stand_in

from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.controls.registry import BLEND, CHAT, CONTROLS, SEQUENTIAL
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints import make_constraint
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


@pytest.mark.parametrize("name", ["fresh", "control"])
def test_a_constraint_holds_for_requests_that_join_leave_and_move(
    name: str,
    make_model: Callable[..., PreTrainedModel],
    chat_format: ChatFormat,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_stand_in(monkeypatch)
    constraint = make_constraint(ConstraintConfig(name), catalogue, chat_format)
    assert constraint is not None
    wish = Condition(CONTROLS["about"], "Comedy", 30)
    asked = [
        Instruction(BLEND, "u", tuple(range(place)), 39, 1 + place, None, None, None, (("user", "?"),), (wish,))
        for place in range(5)
    ]
    asked[3] = replace(asked[3], task=SEQUENTIAL, blend=(), candidates=(7, 8, 9, 10, 11))
    asked.append(Instruction(CHAT, None, (), None, 0, None, None, None, (("user", "hi"),)))
    prompts = [[1, 20 + place, 4, 2] for place in range(6)]
    model = make_model()
    answers = vllm_generator(model, chat_format, 640, 7, constraint)(prompts, 160, asked)
    starts = [constraint.start(instruction) for instruction in asked]
    expected = generate(model, chat_format, prompts, 160, "hf", constraint=constraint, starts=starts)
    assert answers == [sample.tokens for sample in expected]
