"""Rollouts: what is sampled is what is judged, rewarded and written down."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from answering import Given

from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError
from ctrlrec.rewards.reward import Reward
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


@pytest.mark.parametrize("additive", ["true", "false"])
@pytest.mark.parametrize("item_weight", [1, 0, 0.25])
def test_placed_rewards_add_up(answers: list[Answer], item_weight: float, additive: str) -> None:
    reward = Reward(compose(f"reward.item_weight={item_weight}", f"reward.additive_at_items={additive}").reward)
    placed = placed_rewards(answers, reward)
    assert placed.shape == (6, max(len(answer.tokens) for answer in answers))
    for row, answer in zip(placed, answers, strict=True):
        items = item_weight * sum(answer.item_rewards)
        assert float(row.sum()) == pytest.approx(items + 10 * answer.list_reward, abs=1e-4)
        assert not row[len(answer.tokens) :].any()


PLUGIN = """
from ctrlrec.rewards.schemes.base import Scheme, Total

def item(judgement):
    return [1.0] * len(judgement.items), [float(place) for place in range(len(judgement.items))]

def whole(judgement):
    return Total([2.0] * len(judgement.items)), 3.0

SCHEME = Scheme(item, whole)
"""


def test_a_reading_of_a_plug_in_rewards_a_rollout(
    make_module: Callable[..., RLModule], answers: list[Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The untrained model writes no titles, so here it is given the answers to write; the rest is the real way."""
    folder = tmp_path / "plugin" / "rewards" / "schemes"
    folder.mkdir(parents=True)
    (folder / "counted.py").write_text(PLUGIN)
    with pytest.raises(CtrlRecError, match=r"reward\.item=counted"):
        compose("reward.item=counted")
    monkeypatch.setenv("CTRLREC_PLUGINS", str(tmp_path / "plugin"))
    module = make_module(reward=("name=counted", "item=counted", "list=counted", "additive_at_items=true"))
    module.sampler.engine = Given(module.chat_format, [answer.tokens for answer in answers])
    collected = module.collect([answer.judgement.instruction for answer in answers[:3]])
    assert [len(answer.titles) for answer in collected] == [1, 2, 4, 4, 1, 1]
    for answer in collected:
        count = len(answer.titles)
        assert answer.item_rewards == tuple(0.5 + 0.5 * place for place in range(count))
        assert answer.list_reward == 0.5 * 2 * count + 0.5 * 3
    placed = placed_rewards(collected, module.reward)
    for row, answer in zip(placed, collected, strict=True):
        # Half of 3, tenfold, at the end; at each item its own reward and the half of 2, tenfold, that it adds.
        expected = torch.zeros(len(row))
        expected[answer.reward_at[-1]] += 15
        for place, token in enumerate(answer.reward_at[:-1]):
            expected[token] += 0.5 + 0.5 * place + 10
        torch.testing.assert_close(row, expected)


def test_records_hold_the_fields_of_the_contract(answers: list[Answer], make_module: Callable[..., RLModule]) -> None:
    catalogue = make_module().sampler.catalogue
    record = json.loads(json.dumps(answers[2].record(7, 1, catalogue)))
    assert set(record) == {
        "iteration", "sample", "task", "user", "history", "target", "item_count", "category", "proportion",
        "constraints", "candidates", "response", "titles", "items", "teacher_rank", "illegal", "item_reward",
        "list_reward", "tokens", "reward_at",
    }  # fmt: skip
    assert (record["iteration"], record["sample"], record["tokens"]) == (7, 1, len(answers[2].tokens))
    assert record["titles"][-1] == "No Such Film"
    assert record["items"][-1] is None
    assert record["illegal"][-1] == "nonexistent"
    assert record["teacher_rank"][-1] is None
    for item, title in zip(record["items"], record["titles"], strict=True):
        assert item == (title if title in catalogue.titles else None)


def test_summary_means_over_answers(answers: list[Answer]) -> None:
    means = summary(answers, Reward(compose().reward))
    total = sum(sum(answer.item_rewards) + 10 * answer.list_reward for answer in answers) / 6
    assert means["reward/total"] == pytest.approx(total)
    kinds = {str(answer.judgement.instruction.task) for answer in answers}
    weights = {kind: sum(answer.judgement.instruction.task == kind for answer in answers) for kind in kinds}
    assert sum(means[f"reward/total_{kind}"] * weights[kind] for kind in kinds) == pytest.approx(6 * total)
    reasons = [reason for answer in answers for reason in answer.judgement.illegal]
    assert means["illegal/nonexistent"] == pytest.approx(reasons.count("nonexistent") / len(reasons))
    assert means["illegal/any"] == pytest.approx(sum(reason is not None for reason in reasons) / len(reasons))
    assert means["answer/tokens"] == pytest.approx(sum(len(answer.tokens) for answer in answers) / 6)
