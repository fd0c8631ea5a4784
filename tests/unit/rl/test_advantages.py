"""Comparisons among the answers to one prompt, against numbers worked out by hand."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ctrlrec.config.schema import RLConfig
from ctrlrec.rl.advantages import group_moments, less_the_others, returns_by_step, standardised
from ctrlrec.rl.algorithms import ALGORITHMS

# Two prompts with three answers each: total rewards 1, 2, 6 (mean 3, squares 4 + 1 + 9, deviation sqrt(7)) and 4, 4, 4.
TOTALS = torch.tensor([[1.0], [2.0], [6.0], [4.0], [4.0], [4.0]])
GROUP = torch.tensor([0, 0, 0, 1, 1, 1])
ALL = torch.ones(6, 1)


def column(values: torch.Tensor) -> list[float]:
    return values[:, 0].tolist()


def test_standardised_by_hand() -> None:
    expected = [-2 / 7**0.5, -1 / 7**0.5, 3 / 7**0.5, 0, 0, 0]
    assert column(standardised(TOTALS, ALL, GROUP)) == pytest.approx(expected, abs=1e-4)


def test_less_the_others_by_hand() -> None:
    # 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2
    assert column(less_the_others(TOTALS, ALL, GROUP)) == pytest.approx([-3, -1.5, 4.5, 0, 0, 0])


def test_groups_need_not_lie_side_by_side_nor_be_equally_large() -> None:
    totals, group = torch.tensor([[1.0], [4.0], [2.0], [6.0], [9.0]]), torch.tensor([0, 1, 0, 0, 1])
    counted = torch.ones(5, 1)
    assert column(less_the_others(totals, counted, group)) == pytest.approx([-3, -5, -1.5, 4.5, 5])
    assert column(standardised(totals, counted, group))[1] == pytest.approx(-2.5 / 12.5**0.5, abs=1e-4)


def test_a_group_of_one_says_nothing() -> None:
    alone = torch.tensor([[7.0]])
    for compare in (standardised, less_the_others):
        assert column(compare(alone, torch.ones(1, 1), torch.tensor([0]))) == [0]


def test_equal_rewards_give_zero_and_not_noise() -> None:
    totals = torch.full((7, 1), 33.3)
    for compare in (standardised, less_the_others):
        assert column(compare(totals, torch.ones(7, 1), torch.zeros(7))) == pytest.approx([0] * 7, abs=1e-6)


def test_what_is_not_counted_is_compared_and_changes_no_other() -> None:
    """A greedy answer of reward 5 beside 1, 2, 6: two above their mean of 3."""
    totals = torch.cat([TOTALS, torch.tensor([[5.0]])])
    counted, group = torch.cat([ALL, torch.zeros(1, 1)]), torch.cat([GROUP, torch.tensor([0])])
    for compare, own in ((standardised, 2 / 7**0.5), (less_the_others, 2)):
        found = column(compare(totals, counted, group))
        assert found[:6] == column(compare(TOTALS, ALL, GROUP))
        assert found[6] == pytest.approx(own, abs=1e-4)
    mean, deviation, count = group_moments(totals, counted, group)
    assert (mean[6].item(), count[6].item()) == (3, 3)
    assert deviation[6].item() == pytest.approx(7**0.5)


# ---------------------------------------------------------------------- by items

# Answer 0: items on tokens 0-1 and 2-3, end on 4; answer 1: one item on 0-1, end on 2; answer 2: cut off in its item 1.
STEP = torch.tensor([[0, 0, 1, 1, 2], [0, 0, 1, 1, 1], [0, 0, 0, 1, 2]])
MASK = torch.tensor([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
REWARDS = torch.tensor([[0.0, 1, 0, 2, 10], [0, 3, 4, 0, 0], [0, 0, -1, 6, 0]])


def test_returns_by_step_by_hand() -> None:
    returns, reached = returns_by_step(REWARDS, MASK, STEP, 0.5)
    # 10, 2 + .5 * 10, 1 + .5 * 7; 4, 3 + .5 * 4; 6, -1 + .5 * 6
    assert returns.tolist() == [[4.5, 7, 10], [5, 4, 0], [2, 6, 0]]
    assert reached.tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 0]]


def test_returns_do_not_depend_on_the_length_of_titles() -> None:
    wide = [tensor.repeat_interleave(3, 1) for tensor in (MASK, STEP)]
    rewards = torch.zeros(3, 15)
    rewards[:, 2::3] = REWARDS
    assert torch.equal(returns_by_step(rewards, *wide, 0.5)[0], returns_by_step(REWARDS, MASK, STEP, 0.5)[0])


def experience(greedy: tuple[int, ...] = (), **changes: Any) -> Any:
    drawn = MASK.clone()
    drawn[list(greedy)] = 0
    values = {"mask": MASK, "decided": MASK, "drawn": drawn, "drawn_rows": drawn[:, :1]}
    values |= {"step": STEP, "group": torch.zeros(3), "task": torch.zeros(3)}
    return SimpleNamespace(**{**values, "values": torch.zeros(3, 5), "returns": torch.zeros(3, 5), **changes})


@pytest.fixture
def advantages(make_rl_config: Callable[..., RLConfig]) -> Callable[..., torch.Tensor]:
    def compute(name: str, made: Any, **changes: Any) -> torch.Tensor:
        ALGORITHMS[name](make_rl_config(algorithm=name, **changes)).advantages(made, REWARDS)
        return made.advantages

    return compute


def test_item_grpo_by_hand(advantages: Callable[..., torch.Tensor]) -> None:
    """Item 0: 4.5, 5, 2 (mean 23/6); item 1: 7, 4, 6 (mean 17/3); the end of answer 0 is compared with nothing."""
    found = advantages("item_grpo", experience(), gamma=0.5)
    first = torch.tensor([4.5, 5.0, 2.0])
    second = torch.tensor([7.0, 4.0, 6.0])
    first, second = ((values - values.mean()) / values.std() for values in (first, second))
    expected = [
        [first[0], first[0], second[0], second[0], 0],
        [first[1], first[1], second[1], 0, 0],
        [first[2], first[2], first[2], second[2], 0],
    ]
    assert found.tolist() == [pytest.approx([float(value) for value in row], abs=1e-3) for row in expected]


def test_pooled_differences_keep_their_size_between_prompts() -> None:
    """Two prompts: totals 10 and 0 (mean 5), and 5.1 and 4.9 (mean 5); 3 alone is compared with nothing."""
    totals = torch.tensor([[10.0], [0.0], [5.1], [4.9], [3.0]])
    group = torch.tensor([0, 0, 1, 1, 2])
    own = standardised(totals, torch.ones(5, 1), group)[:, 0]
    pooled = standardised(totals, torch.ones(5, 1), group, pooled=True)[:, 0]
    scale = ((25 + 25 + 0.01 + 0.01) / 4) ** 0.5
    assert own.tolist() == pytest.approx([0.7071, -0.7071, 0.7071, -0.7071, 0], abs=1e-3)
    assert pooled.tolist() == pytest.approx([5 / scale, -5 / scale, 0.1 / scale, -0.1 / scale, 0], abs=1e-3)


def test_item_grpo_pools_if_told(advantages: Callable[..., torch.Tensor]) -> None:
    """One prompt, mean 23/6 at item 0 and 17/3 at item 1: the same deviation divides both."""
    found = advantages("item_grpo", experience(), gamma=0.5, options={"scale": "batch"})
    first, second = torch.tensor([4.5, 5.0, 2.0]), torch.tensor([7.0, 4.0, 6.0])
    differences = torch.cat([first - first.mean(), second - second.mean()])
    differences = differences / float((differences**2).mean().sqrt())
    assert found[:, 0].tolist() == pytest.approx(differences[:3].tolist(), abs=1e-3)
    assert found[0, 2] == pytest.approx(float(differences[3]), abs=1e-3) and found[0, 4] == 0


def test_item_grpo_tells_items_apart_where_grpo_cannot(advantages: Callable[..., torch.Tensor]) -> None:
    whole = advantages("grpo", experience())
    assert (whole[0] == whole[0, 0]).all() and not (whole[1, 3:]).any()
    assert advantages("item_grpo", experience())[0].unique().numel() == 3


@pytest.mark.parametrize("name", ["grpo", "rloo", "item_grpo"])
def test_answers_to_other_prompts_have_no_part(name: str, advantages: Callable[..., torch.Tensor]) -> None:
    found = advantages(name, experience(group=torch.tensor([0, 1, 2])))
    assert not found.any()
    pair = advantages(name, experience(group=torch.tensor([0, 1, 0])))
    assert pair[0].any() and not pair[1].any()


def test_total_rewards_of_the_group_algorithms(advantages: Callable[..., torch.Tensor]) -> None:
    """Totals 13, 7, 5: leave-one-out 13 - 6, 7 - 9, 5 - 10; mean 25/3."""
    assert advantages("rloo", experience())[:, 0].tolist() == pytest.approx([7, -2, -5])
    totals = torch.tensor([13.0, 7.0, 5.0])
    standard = (totals - totals.mean()) / totals.std()
    assert advantages("grpo", experience())[:, 0].tolist() == pytest.approx(standard.tolist(), abs=1e-3)


# ---------------------------------------------------------------------- greedy answers


def test_ppo_compares_a_greedy_answer_with_the_samples_at_its_items(advantages: Callable[..., torch.Tensor]) -> None:
    """Answer 0 is greedy: 4.5 less (5 + 2) / 2 at item 0, 7 less (4 + 6) / 2 at item 1, nothing at its end."""
    plain = advantages("ppo", experience(), gamma=0.5)
    made = experience(greedy=(0,))
    found = advantages("ppo", made, gamma=0.5)
    # Values are zero, so that the sampled advantages are the returns by token, with gamma .5 and lambda 1.
    sampled = torch.tensor([2.5, 5.0, 4.0, 0.5, 1.0, 2.0, 6.0])
    scale = float(sampled.std(unbiased=False))
    assert found[0].tolist() == pytest.approx([1 / scale, 1 / scale, 2 / scale, 2 / scale, 0], abs=1e-4)
    assert found[1, :3].tolist() == pytest.approx(((sampled[:3] - sampled.mean()) / scale).tolist(), abs=1e-4)
    assert not torch.allclose(plain[1], found[1])  # whitened without the greedy answer
    assert float((found * made.drawn).sum()) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", ["grpo", "rloo", "item_grpo"])
def test_a_greedy_answer_leaves_the_samples_as_they_are(name: str, advantages: Callable[..., torch.Tensor]) -> None:
    found = advantages(name, experience(greedy=(0,)))
    alone = advantages(name, experience(group=torch.tensor([9, 0, 0])))
    assert torch.equal(found[1:], alone[1:])
    assert found[0, 0] != 0


def test_ppo_whitens_within_a_kind_of_instruction(advantages: Callable[..., torch.Tensor]) -> None:
    made = experience(task=torch.tensor([0, 1, 1]))
    found = advantages("ppo", made, options={"whiten_advantages": "task"})
    for rows in ([0], [1, 2]):
        tokens = found[rows][MASK[rows].bool()]
        assert float(tokens.mean()) == pytest.approx(0, abs=1e-5)
        assert float(tokens.std(unbiased=False)) == pytest.approx(1, abs=1e-4)
    assert not found[1:, 4:].any()
