"""Readings of the reward, one module each; ``SCHEMES`` holds them by the names in ``reward.item``, ``reward.list``."""

from collections.abc import Mapping

from ctrlrec.config.choices import Choices
from ctrlrec.rewards.schemes.base import Scheme

SCHEMES: Mapping[str, Scheme] = Choices("rewards.schemes", "SCHEME")
