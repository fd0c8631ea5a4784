"""Learning from the best and the worst of the answers of the model before RL."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.adapters import ACTOR
from ctrlrec.rl import losses
from ctrlrec.rl.advantages import extremes
from ctrlrec.rl.experience import Experience
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer

Make = Callable[..., RLModule]
Collect = Callable[[RLModule], list[Answer]]
OFFLINE = pytest.mark.parametrize("algorithm", ["dpo", "best_of_n"])


@pytest.fixture
def make(make_module: Make) -> Make:
    def module(algorithm: str, **changes: Any) -> RLModule:
        options = {"beta": 0.1} if algorithm == "dpo" else {}
        return make_module(algorithm=algorithm, options=options, samples_per_prompt=4, **changes)

    return module


def scored(module: RLModule, answers: list[Answer]) -> Experience:
    """The experience with rewards that differ from answer to answer: the untrained model's are all worth the same."""
    experience = module.score(answers)
    experience.rewards = torch.zeros_like(experience.mask)
    experience.rewards[:, 0] = torch.tensor([(5 * row) % len(answers) for row in range(len(answers))]).float()
    return experience


def test_extremes_by_hand() -> None:
    totals = torch.tensor([[1.0], [4.0], [2.0], [6.0], [9.0], [5.0], [5.0], [99.0]])
    group = torch.tensor([0, 1, 0, 0, 1, 2, 2, 1])
    counted = torch.tensor([[1.0]] * 7 + [[0.0]])  # the last is greedy
    assert extremes(totals, counted, group).tolist() == [[3, 0], [4, 1], [5, 5]]


def test_preference_loss_by_hand() -> None:
    margins = torch.tensor([[2.0, -1.0], [0.0, 0.0]])
    expected = [torch.tensor(0.3).neg().exp().add(1).log().item(), torch.tensor(2.0).log().item()]  # beta 0.1
    assert losses.preference_loss(margins, 0.1).tolist() == pytest.approx(expected, abs=1e-6)


@OFFLINE
def test_the_model_before_rl_answers(make: Make, collect: Collect, algorithm: str) -> None:
    moved = make(algorithm, moved=0.5)
    untouched = make(algorithm, moved=0.0)
    assert [answer.tokens for answer in collect(moved)] == [answer.tokens for answer in collect(untouched)]
    experience = moved.score(collect(moved))
    gap = losses.masked_mean((experience.reference - experience.sampled).abs(), experience.mask)
    assert gap < 1e-4 < losses.masked_mean((experience.log_probs - experience.sampled).abs(), experience.mask)


@OFFLINE
def test_learning_makes_the_best_answers_likelier(make: Make, collect: Collect, algorithm: str) -> None:
    module = make(algorithm, moved=0.0, learning_rate=1e-2)
    answers = collect(module)
    experience = scored(module, answers)
    chosen = module.algorithm.learnt(experience)
    best = chosen[:: module.algorithm.together]
    totals = experience.rewards.sum(1)
    for row in best.tolist():
        assert totals[row] == totals[experience.group == experience.group[row]].max()
    before = (experience.log_probs * experience.mask).sum(1)
    parts = [module.learn(experience) for _ in range(3)]
    after = (module.score(answers).log_probs * experience.mask).sum(1)
    assert (after[best] > before[best]).all()
    assert parts[-1]["loss/policy"] < parts[0]["loss/policy"] and "gradient/actor" in parts[0]
    if algorithm == "dpo":
        assert parts[0]["loss/policy"] == pytest.approx(0.6931, abs=1e-3)  # the actor is the reference
        assert parts[-1]["preference/accuracy"] == pytest.approx(1) and parts[-1]["preference/margin"] > 0


@pytest.mark.parametrize("size", [1, 2, 3, 12])
@OFFLINE
def test_micro_batches_change_nothing(make: Make, collect: Collect, algorithm: str, size: int) -> None:
    found = []
    for micro in (size, 12):
        module = make(algorithm, micro_batch_size=micro)
        experience = scored(module, collect(module))
        parts = module._accumulate(experience, module.algorithm.learnt(experience))
        found.append((parts, [p.grad.clone() for n, p in module.named_parameters() if f".{ACTOR}." in n]))
    (parts, gradients), (whole, expected) = found
    assert parts == pytest.approx(whole, abs=1e-5)
    for one, other in zip(gradients, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_prompts_whose_answers_are_all_alike_teach_dpo_nothing(make: Make, collect: Collect) -> None:
    module = make("dpo", moved=0.0, reward=("item_weight=0", "list_weight=0"))
    before = [parameter.clone() for parameter in module.parameters()]
    parts = module.learn(module.score(collect(module)))
    assert parts["policy/steps"] == 0
    assert all(torch.equal(one, other) for one, other in zip(before, module.parameters(), strict=True))


@OFFLINE
def test_what_offline_algorithms_cannot_use_is_refused(algorithm: str) -> None:
    for change in ("rl.greedy_row=true", "rl.samples_per_prompt=1", "rl.critic_ahead=1", "rl.kl_loss_coefficient=0.1"):
        with pytest.raises(CtrlRecError, match=change.partition("=")[0]):
            compose("variant=full", f"rl/algorithm={algorithm}", change)
