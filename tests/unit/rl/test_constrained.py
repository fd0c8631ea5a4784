"""Under a constraint the learner scores what was sampled, among the tokens that were allowed."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from steps_constraint import asking, plugged_in
from vllm_stand_in import install_stand_in

from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.constraints.base import Constraint, support
from ctrlrec.generation.engines import make_engine
from ctrlrec.lm import head
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer

Collect = Callable[[RLModule], list[Answer]]


@pytest.fixture
def steps(tmp_path: Path, catalogue: Catalogue, chat_format: ChatFormat) -> Iterator[Constraint]:
    with plugged_in(tmp_path, catalogue, chat_format) as constraint:
        yield constraint


@pytest.mark.parametrize("engine", ["auto", "hf", "vllm"])
def test_the_learner_scores_as_the_sampler_did(
    steps: Constraint, make_module: Callable[..., RLModule], collect: Collect, engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    install_stand_in(monkeypatch)
    module = make_module()
    module.sampler.constraint = steps
    module.sampler.engine = make_engine(engine, module.sampler.engine.setup)
    answers = collect(module)
    experience = module.score(answers)
    assert (experience.log_probs - experience.sampled).abs().max() < 1e-5
    assert experience.support is not None
    forced = experience.support.forced & experience.mask.bool()
    assert 0.3 < float(forced.sum() / experience.mask.sum()) < 0.6
    for scores in (experience.log_probs, experience.reference):
        assert not scores[forced].any()
    assert (experience.log_probs != experience.reference).any()
    assert not experience.advantages[forced].any()
    assert float(experience.advantages.sum()) == pytest.approx(0, abs=1e-4)
    _, entropy = module.log_probs(experience, torch.arange(len(answers)))
    module.chunked_head = True
    monkeypatch.setattr(head, "_SCORES", 512 * 7)
    log_probs, in_chunks = module.log_probs(experience, torch.arange(len(answers)))
    assert torch.allclose(log_probs, experience.log_probs, atol=1e-6) and torch.allclose(in_chunks, entropy, atol=1e-6)
    assert torch.isfinite(entropy).all() and not entropy[forced].any()
    assert entropy.max() <= math.log(70) + 1e-5  # of one in seven ids
    parts = module._accumulate(experience, torch.arange(len(answers)))
    assert parts["policy/ratio"] == pytest.approx(1, abs=1e-5) and parts["kl/policy"] == pytest.approx(0, abs=1e-6)
    assert all(torch.isfinite(tensor.grad).all() for tensor in module.parameters() if tensor.grad is not None)


def test_the_rewards_on_forced_tokens_are_not_lost(
    steps: Constraint, make_module: Callable[..., RLModule], collect: Collect
) -> None:
    """The list reward of an answer that the constraint ends stands on its forced end."""
    module = make_module(kl_coefficient=0.0, gamma=1.0, whiten_rewards=True)
    module.sampler.constraint = steps
    experience = module.score(collect(module))
    totals = experience.returns[:, 0]
    assert len(set(totals.tolist())) > 1 and totals.abs().min() > 0


def test_gradients_reach_the_allowed_tokens_alone(
    steps: Constraint, make_module: Callable[..., RLModule], collect: Collect
) -> None:
    module = make_module()
    module.sampler.constraint = steps
    experience = module.score(collect(module))
    scores = torch.randn(int(experience.mask.sum()), 512, requires_grad=True)
    assert experience.support is not None
    restricted = experience.support.restrict(torch.arange(len(experience.mask)), scores)
    torch.log_softmax(restricted, -1)[:, 17].clamp(min=-100).sum().backward()
    assert scores.grad is not None
    touched = scores.grad != 0
    assert touched.any() and not touched[:, :10].any()


def test_answers_of_another_sampler_are_refused(steps: Constraint) -> None:
    with pytest.raises(CtrlRecError, match="token 11 at place 0 of answer 0 is not allowed"):
        support(steps, [asking(2)], [[11, 12]])


def test_a_replay_remembers_the_choices(steps: Constraint, chat_format: ChatFormat) -> None:
    (newline,) = chat_format.contents(["\n"])[0]
    replayed = support(steps, [asking(1), asking(0)], [[11, 12, newline], [3, 4]])
    assert replayed is not None
    assert replayed.forced.tolist() == [[False, False, True], [False, False, False]]
    scores = torch.zeros(2, 512)
    assert torch.equal(replayed.restrict(torch.tensor([1]), scores), scores)  # a free answer
    first = replayed.restrict(torch.tensor([0]), torch.zeros(3, 512))[0] == 0
    assert np.flatnonzero(first.numpy()).tolist() == list(range(11, 500, 7))


@pytest.mark.parametrize("name", ["catalogue", "fresh", "control"])
def test_lists_are_learnt_as_they_were_sampled(
    name: str, make_module: Callable[..., RLModule], collect: Collect, catalogue: Catalogue, chat_format: ChatFormat
) -> None:
    module = make_module(max_new_tokens=160, greedy_row=True)
    module.sampler.constraint = make_constraint(ConstraintConfig(name), catalogue, chat_format)
    answers = collect(module)
    for answer in answers:
        count = answer.judgement.instruction.item_count
        assert len(answer.titles) == count and answer.tokens[-1] == chat_format.end
        illegal = {reason for reason in answer.judgement.illegal if reason is not None}
        assert illegal <= ({"repeat", "history"} if name == "catalogue" else set())
        if name == "control":
            for side in answer.judgement.sides:
                assert side.count_in in side.condition.control.allowed(count, side.condition.proportion)
    experience = module.score(answers)
    assert ((experience.log_probs - experience.sampled) * experience.drawn_rows).abs().max() < 1e-5
    assert experience.support is not None
    forced = experience.support.forced & experience.mask.bool()
    assert forced.sum() > experience.mask.sum() / 3
    for numbers in (experience.log_probs, experience.reference, experience.decided, experience.drawn):
        assert not numbers[forced].any()
    parts = module._accumulate(experience, torch.arange(len(answers)))
    assert parts["policy/ratio"] == pytest.approx(1, abs=1e-5) and parts["kl/policy"] == pytest.approx(0, abs=1e-6)
