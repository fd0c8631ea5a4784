"""The optimiser of RL, and learning rates and the sampling temperature over its iterations."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ctrlrec.config.schema import RLConfig
from ctrlrec.lm.adapters import ACTOR, CRITIC
from ctrlrec.runtime.optimizers import fused
from ctrlrec.sl.module import polynomial_decay


def actor_rate(config: RLConfig, iteration: int) -> float:
    """Return the factor on ``rl.learning_rate``: warm-up and decay begin once the critic's lead is over."""
    return _rate(config, iteration - config.critic_ahead, _length(config) - config.critic_ahead)


def critic_rate(config: RLConfig, iteration: int) -> float:
    """Return the factor on ``rl.critic_learning_rate``: after warm-up it decays, or stays with critic_decay=false."""
    if not config.critic_decay and iteration >= config.warmup_iterations:
        return 1.0
    return _rate(config, iteration, _length(config))


def _length(config: RLConfig) -> int:
    """Return the iterations after which a rate would be 0: a schedule may be longer than the training."""
    return config.schedule_iterations or config.iterations


def _rate(config: RLConfig, iteration: int, total: int) -> float:
    iteration = max(iteration, 0)
    factor = polynomial_decay(iteration, total, config.warmup_iterations, config.decay_power)
    return factor if iteration < config.warmup_iterations else max(factor, config.decay_floor)


def temperature(config: RLConfig, iteration: int) -> float:
    """Return the sampling temperature: from ``rl.temperature`` straight to ``rl.temperature_end``, reached at the end.

    Actor, old actor and reference of an iteration are all taken at it.
    """
    if config.temperature_end is None:
        return config.temperature
    progress = min(iteration / max(1, config.iterations - 1), 1.0)
    return config.temperature + progress * (config.temperature_end - config.temperature)


def optimizers(
    config: RLConfig, named: Mapping[str, torch.Tensor], critic: bool
) -> tuple[list[torch.optim.Optimizer], list[torch.optim.lr_scheduler.LambdaLR]]:
    """Return one Adam and its schedule, with a group for the actor and, if there is one, for the critic and its head.

    Args:
        config: of RL.
        named: the parameters of the module.
        critic: whether there is a critic.
    """
    actor = [tensor for name, tensor in named.items() if f".{ACTOR}." in name]
    groups: list[dict[str, Any]] = [{"name": ACTOR, "params": actor, "lr": config.learning_rate}]
    if critic:
        values = [tensor for name, tensor in named.items() if f".{CRITIC}." in name or name.startswith("value_head")]
        groups.append({"name": CRITIC, "params": values, "lr": config.critic_learning_rate})
    adam = torch.optim.Adam(groups, eps=config.adam_epsilon, fused=fused(groups))
    rates = [partial(rate, config) for rate in (actor_rate, critic_rate)][: len(groups)]
    return [adam], [torch.optim.lr_scheduler.LambdaLR(adam, rates)]  # type: ignore[arg-type]
