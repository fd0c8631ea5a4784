"""Rates and temperature over the iterations, by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ctrlrec.config.schema import RLConfig
from ctrlrec.rl.schedule import actor_rate, critic_rate, temperature

Make = Callable[..., RLConfig]
MakeModule = Callable[..., Any]


def test_the_rate_falls_to_its_floor_and_not_below(make_rl_config: Make) -> None:
    config = make_rl_config(iterations=10, warmup_iterations=2, decay_power=2.0, decay_floor=0.2)
    expected = [1 / 3, 2 / 3, 1, (7 / 8) ** 2, (6 / 8) ** 2, (5 / 8) ** 2, 0.25, 0.2, 0.2, 0.2]
    assert [actor_rate(config, iteration) for iteration in range(10)] == pytest.approx(expected)
    assert [critic_rate(config, iteration) for iteration in range(10)] == pytest.approx(expected)


def test_a_floor_does_not_lift_the_warm_up(make_rl_config: Make) -> None:
    config = make_rl_config(iterations=10, warmup_iterations=3, decay_floor=0.9)
    assert [actor_rate(config, iteration) for iteration in range(3)] == pytest.approx([0.25, 0.5, 0.75])


def test_the_actor_starts_once_the_critic_is_ahead(make_rl_config: Make) -> None:
    config = make_rl_config(iterations=7, warmup_iterations=1, decay_power=1.0, critic_ahead=2)
    assert [actor_rate(config, iteration) for iteration in range(2, 7)] == pytest.approx([0.5, 1, 0.75, 0.5, 0.25])
    assert [critic_rate(config, iteration) for iteration in (0, 1, 4)] == pytest.approx([0.5, 1, 0.5])


def test_the_critic_may_keep_its_rate(make_rl_config: Make) -> None:
    config = make_rl_config(iterations=6, warmup_iterations=1, critic_decay=False)
    assert [critic_rate(config, iteration) for iteration in range(6)] == [0.5, 1, 1, 1, 1, 1]
    assert actor_rate(config, 5) < 1


def test_the_temperature_moves_straight_to_its_end(make_rl_config: Make) -> None:
    config = make_rl_config(iterations=5, temperature=0.7, temperature_end=0.3)
    assert [temperature(config, iteration) for iteration in range(6)] == pytest.approx([0.7, 0.6, 0.5, 0.4, 0.3, 0.3])
    assert temperature(make_rl_config(iterations=1, temperature_end=0.3), 0) == 0.7
    assert temperature(make_rl_config(), 4) == 0.7


def test_the_decay_may_be_longer_than_the_training(make_module: MakeModule) -> None:
    def rates(**changes: Any) -> list[float]:
        module = make_module(iterations=3, decay_power=1.0, warmup_iterations=0, learning_rate=1.0, **changes)
        (optimizer,), (scheduler,) = module.configure_optimizers()
        seen = []
        for _ in range(4):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return seen

    assert rates() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert rates(schedule_iterations=10) == pytest.approx([1, 0.9, 0.8, 0.7])


def test_adam_takes_its_epsilon_from_the_configuration(make_module: MakeModule) -> None:
    (optimizer,), _ = make_module(adam_epsilon=0.5).configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert {group["eps"] for group in optimizer.param_groups} == {0.5}
