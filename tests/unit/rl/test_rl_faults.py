"""PPO stops on numbers that are not finite and on a policy that says nothing any more."""

import dataclasses
import logging
import math
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file

from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.adapters import trainable_state
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer

Make = Callable[..., RLModule]


def state(module: RLModule) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainable_state(module).items()}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda answer: dataclasses.replace(answer, list_reward=math.nan), "the reward is not finite"),
        (lambda answer: dataclasses.replace(answer, list_reward=math.inf), "the reward is not finite"),
    ],
)
def test_a_reward_that_is_not_finite_is_not_learnt_from(make_module: Make, answers: list[Answer], spoil, said) -> None:
    module = make_module()
    before = state(module)
    with pytest.raises(CtrlRecError, match=said):
        module.score([spoil(answers[0]), *answers[1:]])
    kept = load_file(module.rollouts.path.parent / "not_finite.safetensors")
    assert {"batch/ids", "batch/actions", "batch/mask"} <= kept.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(module).items())


@pytest.mark.parametrize("field", ["advantages", "returns"])
def test_a_loss_that_is_not_finite_is_not_learnt_from(make_module: Make, answers: list[Answer], field: str) -> None:
    module = make_module()
    before = state(module)
    experience = module.score(answers)
    getattr(experience, field)[1, 0] = math.nan
    with pytest.raises(CtrlRecError, match=r"the (policy|value) loss is not finite, nothing was trained on it"):
        module.learn(experience)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(module).items())
    kept = load_file(module.rollouts.path.parent / "not_finite.safetensors")
    assert torch.isnan(kept[f"batch/{field}"]).sum() == 1


def test_a_gradient_that_is_not_finite_is_not_followed(make_module: Make, answers: list[Answer]) -> None:
    module = make_module()
    before = state(module)
    experience = module.score(answers)
    module.value_head.bias.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(CtrlRecError, match="the gradient is not finite"):
        module.learn(experience)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(module).items())


def silent(answer: Answer, end: int) -> Answer:
    judged = dataclasses.replace(answer.judgement, items=(), illegal=(), ranks=(), sides=())
    return dataclasses.replace(answer, tokens=[end], text="", titles=(), judgement=judged)


def test_a_policy_that_falls_silent_is_warned_of_and_stopped(
    make_module: Make, answers: list[Answer], caplog: pytest.LogCaptureFixture
) -> None:
    module = make_module()
    nothing = [silent(answer, module.chat_format.end) for answer in answers]
    with caplog.at_level(logging.WARNING):
        for iteration in range(4):
            assert module.watch(iteration, nothing) == 0
        module.watch(4, [*nothing[1:], answers[0]])  # one answer is left: not collapsed yet
        for iteration in range(5, 9):
            module.watch(iteration, nothing)
    assert caplog.text.count("of 6 answers 6 are empty and 0 have no end") == 1  # said once, not at every iteration
    with pytest.raises(CtrlRecError, match=r"collapsed: all 6 answers of each of the last 5 iterations are empty"):
        module.watch(9, nothing)


def test_answers_without_an_end_are_counted(
    make_module: Make, answers: list[Answer], caplog: pytest.LogCaptureFixture
) -> None:
    module = make_module()
    assert module.watch(0, answers) == 1  # the last one is cut off
    endless = [dataclasses.replace(answer, tokens=answer.tokens[:-1]) for answer in answers]
    with caplog.at_level(logging.WARNING):
        assert module.watch(1, endless) == 6
    assert "of 6 answers 0 are empty and 6 have no end" in caplog.text


def test_a_checkpoint_that_does_not_say_its_iterations_is_refused(make_module: Make) -> None:
    module = make_module()
    checkpoint = {"epoch": 2, "state_dict": state(module)}
    with pytest.raises(CtrlRecError, match="checkpoint is of an earlier version; delete the folder"):
        module.on_load_checkpoint(checkpoint)
