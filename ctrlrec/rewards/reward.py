"""The reward of an answer: a reading of the paper, mixed and weighted by the configuration (spec sections 5, 13)."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ctrlrec.config.schema import RewardConfig
from ctrlrec.config.unrecorded import completed
from ctrlrec.rewards.judging import Judgement
from ctrlrec.rewards.schemes import SCHEMES
from ctrlrec.rewards.schemes.base import Part, Total


class Reward:
    """Rewards of items and of lists.

    Args:
        config: of the section ``reward``.

    Attributes:
        settings: the same as plain values, which decide every reward.
        item_weight: factor of every item reward; 0 leaves the list reward alone (variant v3).
        list_weight: factor of the list reward (10 in the paper).
    """

    def __init__(self, config: RewardConfig):
        self.settings = {field.name: getattr(config, field.name) for field in fields(RewardConfig)}
        self._item, self._list = SCHEMES[config.item].item, SCHEMES[config.list].list
        self._shares = config.preference_share, 1 - config.preference_share
        self.item_weight, self.list_weight = config.item_weight, config.list_weight
        self._additive_at_items, self._missing_item = config.additive_at_items, config.missing_item

    @classmethod
    def of_run(cls, recorded: Mapping[str, Any]) -> "Reward":
        """Return the reward of a finished run from its section ``reward``, whose older records lack the newest keys."""
        return cls(RewardConfig(**completed("reward", recorded)))

    def item(self, judgement: Judgement) -> list[float]:
        """Return R_item of each written item, before its weight (Eq. 2)."""
        preference, control = self._item(judgement)
        return [self._mixed(score, control) for score, control in zip(preference, control, strict=True)]

    def list(self, judgement: Judgement) -> float:
        """Return R_list, before its weight: Equation 5, less ``reward.missing_item`` for each item that is missing."""
        preference, control = self._list(judgement)
        return self._mixed(_value(preference), _value(control)) - self._charge(judgement)

    def control(self, judgement: Judgement) -> float:
        """Return the part of R_list that measures the control (Eq. 4), before its share."""
        return _value(self._list(judgement)[1])

    def additive(self, judgement: Judgement) -> Sequence[float]:
        """Return what each written item adds to R_list; of I0 under ``paper`` this is all of it."""
        total = [0.0] * len(judgement.items)
        for share, part in zip(self._shares, self._list(judgement), strict=True):
            if isinstance(part, Total):
                total = [sum_ + share * addend for sum_, addend in zip(total, part.at_items(), strict=True)]
        return total

    def parts(self, judgement: Judgement) -> dict[str, float]:
        """Return what the reward of an answer is made of, weighted; the values add up to :meth:`total`.

        ``items: preference`` and ``items: control`` are of legal items, ``illegal items`` of the others; ``list:
        preference`` and ``list: control`` are the two halves of R_list; ``missing items`` is what it loses for those.
        """
        item = dict.fromkeys(("items: preference", "items: control", "illegal items"), 0.0)
        for preference, control, illegal in zip(*self._item(judgement), judgement.illegal, strict=True):
            names = ("items: preference", "items: control") if illegal is None else ("illegal items",) * 2
            for name, share, score in zip(names, self._shares, (preference, control), strict=True):
                item[name] += self.item_weight * share * score
        halves = zip(("list: preference", "list: control"), self._shares, self._list(judgement), strict=True)
        parts = item | {name: self.list_weight * share * _value(part) for name, share, part in halves}
        return parts | {"missing items": -self.list_weight * self._charge(judgement)} if self._missing_item else parts

    def total(self, items: Sequence[float], whole: float) -> float:
        """Return the reward of an answer from R_item of its items and its R_list, weighted."""
        return self.item_weight * sum(items) + self.list_weight * whole

    def credit(self, items: Sequence[float], whole: float, judgement: Judgement) -> tuple[Sequence[float], float]:
        """Return what each item and the end of an answer earn, weighted; together they are :meth:`total`.

        With ``reward.additive_at_items``, what an item adds to R_list stands at the item (spec section 13).

        Args:
            items: R_item of each written item.
            whole: R_list.
            judgement: of the answer.
        """
        at_items = [self.item_weight * value for value in items]
        if not self._additive_at_items:
            return at_items, self.list_weight * whole
        added = self.additive(judgement)
        at_items = [earned + self.list_weight * value for earned, value in zip(at_items, added, strict=True)]
        return at_items, self.list_weight * (whole - sum(added))

    def _charge(self, judgement: Judgement) -> float:
        """Return what R_list loses for missing items."""
        return self._missing_item * max(judgement.instruction.item_count - len(judgement.items), 0)

    def _mixed(self, preference: float, control: float) -> float:
        return self._shares[0] * preference + self._shares[1] * control


def _value(part: Part) -> float:
    return part.value if isinstance(part, Total) else part
