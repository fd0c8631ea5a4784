"""Which seed decides what: that of the whole run (``seed``) and that of RL alone (``rl.seed``).

Each function takes a configuration, or plain containers as results record it.
"""

from typing import Any

from omegaconf import OmegaConf

from ctrlrec.config.schema import Config


def seed_of_rl(config: Any) -> int:
    """Return the seed of RL: ``rl.seed``, or ``seed`` if that is null or the record is older than the key."""
    own = config["rl"].get("seed")
    return config["seed"] if own is None else own


def seed_of_row(config: Any) -> int:
    """Return the seed that tells apart the rows of one name: RL's if the row has RL, else that of the whole run."""
    return seed_of_rl(config) if config["variant"].get("rl") else config["seed"]


def seeded_for_rl(config: Config) -> Config:
    """Return the configuration that RL works with: its ``seed`` is that of RL."""
    return OmegaConf.merge(config, {"seed": seed_of_rl(config)})  # type: ignore[arg-type,return-value]
