"""Learning rates and the sampling temperature over the iterations of RL."""

from ctrlrec.config.schema import RLConfig
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
