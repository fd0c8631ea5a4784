"""Guided answers: what the model writes under a constraint, learnt from without it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ctrlrec.config.checks import check, check_choices
from ctrlrec.config.compose import compose
from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.engines.base import in_order
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import ACTOR, using
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rl.advantages import standardised
from ctrlrec.rl.data import Prompts
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer

Make = Callable[..., RLModule]
Collect = Callable[[RLModule], list[Answer]]
Likelier = Callable[[RLModule, str], bool]


def guided(make_module: Make, catalogue: Catalogue, chat_format: ChatFormat, **changes: object) -> RLModule:
    """A module that answers each prompt once more, under control."""
    module = make_module(max_new_tokens=160, guided_row="control", **changes)
    module.sampler.guide = make_constraint(ConstraintConfig("control"), catalogue, chat_format)
    return module


def test_a_prompt_gets_one_answer_more_that_does_what_was_asked(
    make_module: Make, collect: Collect, catalogue: Catalogue, chat_format: ChatFormat
) -> None:
    plain = collect(make_module(max_new_tokens=160, greedy_row=True))
    module = guided(make_module, catalogue, chat_format, greedy_row=True)
    answers = collect(module)
    assert [answer.kind for answer in answers] == ["sampled", "sampled", "greedy", "guided"] * 3
    assert [answer for answer in answers if answer.kind != "guided"] == plain
    for answer in answers[3::4]:
        judged, count = answer.judgement, answer.judgement.instruction.item_count
        assert len(answer.titles) == count and not any(judged.illegal)
        for side in judged.sides:
            assert side.count_in in side.condition.control.allowed(count, side.condition.proportion)
    engine, asked = module.sampler.engine, [answer.judgement.instruction for answer in answers[3::4]]
    with using(module.model, ACTOR):
        expected = in_order(engine.answers(engine.prompts(asked), constraint=module.sampler.guide))
    assert [answer.tokens for answer in answers[3::4]] == [sample.tokens for sample in expected]


def test_its_log_probabilities_are_those_of_the_free_model(
    make_module: Make, collect: Collect, catalogue: Catalogue, chat_format: ChatFormat
) -> None:
    module = guided(make_module, catalogue, chat_format)
    answers = collect(module)
    experience = module.score(answers)
    assert experience.support is None and torch.equal(experience.decided, experience.mask)
    ids = torch.tensor([answers[2].prompt + answers[2].tokens])
    with torch.no_grad(), using(module.model, ACTOR):
        scores = module.model(input_ids=ids).logits[0, len(answers[2].prompt) - 1 : -1] / module.temperature
    expected = scores.log_softmax(-1).gather(1, torch.tensor(answers[2].tokens)[:, None])[:, 0]
    assert torch.allclose(experience.log_probs[2, : len(expected)], expected, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["item_grpo", "grpo", "rloo", "ppo"])
def test_the_free_model_learns_to_write_it(
    algorithm: str, make_module: Make, becomes_likelier: Likelier, catalogue: Catalogue, chat_format: ChatFormat
) -> None:
    own = {"entropy_coefficient": 0.0, "kl_coefficient": 0.0, "learning_rate": 3e-3, "ppo_epochs": 3}
    module = guided(make_module, catalogue, chat_format, algorithm=algorithm, **own)
    assert becomes_likelier(module, "guided")


def test_its_rows_are_marked_and_numbered_last(
    make_module: Make, collect: Collect, catalogue: Catalogue, chat_format: ChatFormat, tmp_path: Path
) -> None:
    module = guided(make_module, catalogue, chat_format)
    module.rollouts.add(0, collect(module), 3)
    rows = [json.loads(line) for line in module.rollouts.path.read_text(encoding="utf-8").splitlines()]
    assert [(row["sample"], row.get("guided", False)) for row in rows] == [(0, False), (1, False), (2, True)] * 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["rl.guided_row=contrl"], "rl.guided_row=contrl: .*control"),
        (["rl.guided_row=control", "rl/algorithm=dpo"], "it learns from sampled answers alone; set rl.guided_row=none"),
        (["rl.guided_row=fresh", "rl/algorithm=trl_grpo"], "sampled answers alone; set rl.guided_row=none"),
        (["rl.guided_row=fresh", "constraint=control", "rl.constrained=true"], "need no guide; set rl.guided_row=none"),
        (["rl.guided_row=fresh", "rl.minibatches=16"], "does not divide the 24 answers"),
    ],
)
def test_what_cannot_be_guided_is_refused(changes: list[str], said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        config = compose("variant=full", "model=llama_mini", "rl.prompts=8", "rl.minibatches=1", *changes)
        check(config)
        check_choices(config)


def test_beside_samples_that_are_all_alike_it_has_no_giant_advantage() -> None:
    values = torch.tensor([[1.0], [1.0], [2.0], [0.0], [4.0], [3.0]])
    counted = torch.tensor([[1.0], [1.0], [0.0]] * 2)
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    # Differences to the mean of their prompt: 0, 0, -2, 2; the root of their mean square is that of 2.
    expected = torch.tensor([0.0, 0.0, 1 / 2**0.5, -2 / 8**0.5, 2 / 8**0.5, 1 / 8**0.5])
    assert torch.allclose(standardised(values, counted, group)[:, 0], expected, atol=1e-3)
    assert not standardised(values[:3], counted[:3], group[:3]).any()


def test_answers_that_all_end_at_once_are_noticed_beside_guided_ones(
    make_module: Make, collect: Collect, catalogue: Catalogue, chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = guided(make_module, catalogue, chat_format)
    answers = [answer if answer.kind == "guided" else replace(answer, titles=()) for answer in collect(module)]
    monkeypatch.setattr(module, "collect", lambda _: answers)
    monkeypatch.setattr(module.watch, "_all_empty", 4)
    with pytest.raises(CtrlRecError, match="the policy has collapsed: all 6 answers"):
        module.training_step(Prompts(0, []), 0)


def test_what_a_guide_rules_out_names_the_guide(
    make_module: Make, catalogue: Catalogue, chat_format: ChatFormat, builder: InstructionBuilder
) -> None:
    module = guided(make_module, catalogue, chat_format)
    asked = replace(builder.rollout_prompts(0, 1, (2, 2))[0], item_count=len(catalogue) + 1)
    prompts = module.sampler.engine.prompts([asked])
    with pytest.raises(CtrlRecError, match=r"rl\.guided_row: .* or set rl\.guided_row=none"):
        module.sampler(prompts, 0.7, 2, guided_row=True)


def test_answers_that_an_engine_lost_are_noticed(
    make_module: Make, builder: InstructionBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = make_module().sampler
    prompts = sampler.engine.prompts(builder.rollout_prompts(0, 2, (2, 2)))
    whole = sampler.engine.answers
    monkeypatch.setattr(sampler.engine, "answers", lambda *options: iter(list(whole(*options))[1:]))
    with pytest.raises(CtrlRecError, match="it gave 3 of 4 answers"):
        sampler(prompts, 0.7, 2)
