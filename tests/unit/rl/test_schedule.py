"""How the learning rate falls, and what Adam divides by."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

Make = Callable[..., Any]


def test_the_decay_may_be_longer_than_the_training(make_module: Make) -> None:
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


def test_adam_takes_its_epsilon_from_the_configuration(make_module: Make) -> None:
    (optimizer,), _ = make_module(adam_epsilon=0.5).configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert {group["eps"] for group in optimizer.param_groups} == {0.5}
