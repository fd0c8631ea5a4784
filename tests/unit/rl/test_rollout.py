"""Rollouts: what is sampled is what is judged, rewarded and written down."""

import json
from collections.abc import Callable

import pytest

from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer, placed_rewards, summary


def test_sampled_answers_hang_together(make_module: Callable[..., RLModule], collect: Callable) -> None:
    module = make_module()
    answers = collect(module)
    assert len(answers) == 3 * 2
    for first, second in zip(answers[::2], answers[1::2], strict=True):  # two samples of each prompt, side by side
        assert first.judgement.instruction == second.judgement.instruction
        assert first.prompt == second.prompt
        assert first.tokens != second.tokens
    tokenizer = module.chat_format.tokenizer
    for answer in answers:
        assert answer.text == tokenizer.decode(answer.tokens, skip_special_tokens=True)
        assert len(answer.titles) == len(answer.item_rewards) == len(answer.reward_at) - 1
        assert answer.reward_at[-1] == len(answer.tokens) - 1
        assert len(answer.tokens) <= 24


@pytest.mark.parametrize("item_rewards", [True, False])
def test_placed_rewards_add_up(answers: list[Answer], item_rewards: bool) -> None:
    placed = placed_rewards(answers, item_rewards, 10.0)
    assert placed.shape == (6, max(len(answer.tokens) for answer in answers))
    for row, answer in zip(placed, answers, strict=True):
        items = sum(answer.item_rewards) if item_rewards else 0
        assert float(row.sum()) == pytest.approx(items + 10 * answer.list_reward, abs=1e-4)
        assert not row[len(answer.tokens) :].any()


def test_records_hold_the_fields_of_the_contract(answers: list[Answer], make_module: Callable[..., RLModule]) -> None:
    catalogue = make_module().sampler.catalogue
    record = json.loads(json.dumps(answers[2].record(7, 1, catalogue)))
    assert set(record) == {
        "iteration", "sample", "task", "user", "history", "target", "item_count", "category", "proportion",
        "candidates", "response", "titles", "items", "teacher_rank", "illegal", "item_reward", "list_reward", "tokens",
        "reward_at",
    }  # fmt: skip
    assert (record["iteration"], record["sample"], record["tokens"]) == (7, 1, len(answers[2].tokens))
    assert record["titles"][-1] == "No Such Film"
    assert record["items"][-1] is None
    assert record["illegal"][-1] == "nonexistent"
    assert record["teacher_rank"][-1] is None
    for item, title in zip(record["items"], record["titles"], strict=True):
        assert item == (title if title in catalogue.titles else None)


def test_summary_means_over_answers(answers: list[Answer]) -> None:
    means = summary(answers, 10.0)
    total = sum(sum(answer.item_rewards) + 10 * answer.list_reward for answer in answers) / 6
    assert means["reward/total"] == pytest.approx(total)
    kinds = {str(answer.judgement.instruction.task) for answer in answers}
    weights = {kind: sum(answer.judgement.instruction.task == kind for answer in answers) for kind in kinds}
    assert sum(means[f"reward/total_{kind}"] * weights[kind] for kind in kinds) == pytest.approx(6 * total)
    reasons = [reason for answer in answers for reason in answer.judgement.illegal]
    assert means["illegal/nonexistent"] == pytest.approx(reasons.count("nonexistent") / len(reasons))
    assert means["illegal/any"] == pytest.approx(sum(reason is not None for reason in reasons) / len(reasons))
    assert means["answer/tokens"] == pytest.approx(sum(len(answer.tokens) for answer in answers) / 6)
