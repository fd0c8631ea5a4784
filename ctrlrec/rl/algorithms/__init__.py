"""The algorithms of RL (spec section 13): a module here, or in a plug-in, that defines ``ALGORITHM`` is a choice."""

from collections.abc import Mapping

from ctrlrec.config.choices import Choices
from ctrlrec.config.schema import RLConfig
from ctrlrec.rl.algorithms.base import Algorithm, Choice

ALGORITHMS: Mapping[str, type[Choice]] = Choices("rl.algorithms", "ALGORITHM")


def make_algorithm(config: RLConfig) -> Algorithm:
    """Return the chosen algorithm, one whose loop is our own."""
    chosen = ALGORITHMS[config.algorithm.name]
    assert issubclass(chosen, Algorithm), f"{config.algorithm.name} has a loop of its own"
    return chosen(config)
