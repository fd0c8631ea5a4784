"""The definition of a reward scheme."""

from collections.abc import Callable
from dataclasses import dataclass

from ctrlrec.rewards.judging import Judgement


@dataclass(frozen=True, slots=True)
class Total:
    """A part of a list's reward to which every item adds something.

    Attributes:
        addends: one number per written item.
        over: what their sum is divided by.
    """

    addends: list[float]
    over: float = 1.0

    @property
    def value(self) -> float:
        """The sum over the items, divided."""
        return sum(self.addends) / self.over

    def at_items(self) -> list[float]:
        """Return what each item adds; the sum is :attr:`value`."""
        return [addend / self.over for addend in self.addends]


Part = Total | float  # of a list's reward: what items add up to, or one number for the whole list


@dataclass(frozen=True, slots=True)
class Scheme:
    """One reading of Equations 1 to 5: how well an answer meets the preference and the control.

    How the two are mixed and weighted is a matter of the configuration; see :class:`ctrlrec.rewards.reward.Reward`.

    Attributes:
        item: preference and control score of each written item.
        list: preference and control part of the list.
    """

    item: Callable[[Judgement], tuple[list[float], list[float]]]
    list: Callable[[Judgement], tuple[Part, Part]]
