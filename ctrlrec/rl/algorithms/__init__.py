"""The algorithms of RL (spec section 13): a module here, or in a plug-in, that defines ``ALGORITHM`` is a choice."""

from collections.abc import Mapping

from ctrlrec.config.choices import Choices
from ctrlrec.rl.algorithms.base import Algorithm

ALGORITHMS: Mapping[str, type[Algorithm]] = Choices("rl.algorithms", "ALGORITHM")
