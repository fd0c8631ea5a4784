"""Greedy, guided and corrected answers beside sampled ones: compared with them, and never taken for them."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from ctrlrec.config.compose import compose
from ctrlrec.lm.adapters import ACTOR, CRITIC, using
from ctrlrec.rewards.reward import Reward
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer, summary

Make = Callable[..., RLModule]
Collect = Callable[[RLModule], list[Answer]]


EITHER = pytest.mark.parametrize("kind", ["greedy", "guided", "corrected"])


def marked(answers: list[Answer], kind: str) -> list[Answer]:
    """The same answers, every third one greedy, guided or corrected, those of one prompt side by side."""
    asked = [answers[place - place % 3].judgement.instruction for place in range(6)]
    return [
        dataclasses.replace(
            answer,
            prompt=answers[place - place % 3].prompt,
            judgement=dataclasses.replace(answer.judgement, instruction=asked[place]),
            kind=kind if place % 3 == 2 else "sampled",
        )
        for place, answer in enumerate(answers)
    ]


def test_a_prompt_gets_one_answer_more_and_it_is_the_likeliest(make_module: Make, collect: Collect) -> None:
    plain, module = make_module(), make_module(greedy_row=True)
    sampled, answers = collect(plain), collect(module)
    assert [answer.kind for answer in answers] == ["sampled", "sampled", "greedy"] * 3
    assert [answer.tokens for answer in answers if answer.kind != "greedy"] == [answer.tokens for answer in sampled]
    for answer in answers[2::3]:
        assert answer.judgement.instruction == answers[answers.index(answer) - 1].judgement.instruction
        ids = torch.tensor([answer.prompt + answer.tokens])
        with torch.no_grad(), using(module.model, ACTOR):
            scores = module.model(input_ids=ids).logits[0, len(answer.prompt) - 1 : -1]
        assert scores.argmax(-1).tolist() == answer.tokens


@EITHER
def test_the_critic_the_divergence_and_the_scale_see_samples_alone(
    kind: str, make_module: Make, answers: list[Answer]
) -> None:
    rows = marked(answers, kind)
    module, alone = make_module(), make_module()
    experience = module.score(rows)
    only = alone.score([row for row in rows if row.sampled])
    sampled, width = [0, 1, 3, 4], only.mask.shape[1]
    for name in ("advantages", "returns", "values"):
        assert torch.allclose(getattr(experience, name)[sampled, :width], getattr(only, name), atol=1e-4), name
    parts, expected = module._accumulate(experience, torch.arange(6)), alone._accumulate(only, torch.arange(4))
    for name in ("loss/value", "policy/entropy", "kl/policy"):
        assert parts[name] == pytest.approx(expected[name], abs=1e-4), name
    # Averaged over more tokens, the critic's gradient is otherwise that of the samples.
    share = float(only.mask.sum() / experience.mask.sum())
    others = dict(alone.named_parameters())
    for name, parameter in module.named_parameters():
        if f".{CRITIC}." in name:
            assert torch.allclose(parameter.grad, share * others[name].grad, rtol=1e-3, atol=1e-5), name


def test_the_likelihood_of_a_bad_greedy_answer_falls(make_module: Make, answers: list[Answer]) -> None:
    module = make_module(entropy_coefficient=0.0, kl_coefficient=0.0, learning_rate=3e-3, ppo_epochs=3)
    rows = marked(answers, "greedy")
    rows = [
        dataclasses.replace(
            row, list_reward=-5.0 if row.kind == "greedy" else 1.0, item_rewards=(0.0,) * len(row.item_rewards)
        )
        for row in rows
    ]
    experience = module.score(rows)
    assert (experience.advantages[[2, 5]].sum(1) < 0).all()
    before = experience.log_probs.clone()
    module.learn(experience)
    after = module.score(rows).log_probs
    compared = experience.advantages != 0
    assert float(((after - before) * compared)[[2, 5]].sum()) < 0


@EITHER
def test_rewards_are_logged_apart(kind: str, answers: list[Answer]) -> None:
    rows = marked(answers, kind)
    reward = Reward(compose().reward)
    means = summary(rows, reward)
    sampled = summary([row for row in rows if row.sampled], reward)
    assert {name: value for name, value in means.items() if not name.startswith(f"{kind}/")} == sampled
    total = sum(sum(row.item_rewards) + 10 * row.list_reward for row in rows if not row.sampled) / 2
    assert means[f"{kind}/total"] == pytest.approx(total)
