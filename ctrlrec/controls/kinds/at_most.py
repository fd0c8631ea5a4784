"""I2 <=m: at most a share of a category."""

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

from ctrlrec.controls.base import ProportionControl, at_most_score, demand


class AtMost(ProportionControl):
    """At most m percent of the list in the category."""

    task = "proportion_at_most"
    turn, stream, order = 1, 3, 3
    opposes = True
    bounds_above = True
    settings: ClassVar[Mapping[str, int | None]] = {"at_most_20": 20}
    sentences = (
        "In the recommendation list, the proportion of '{target_category}' items should be less than or equal to "
        "{category_proportion}",
    )

    def allowed(self, item_count: int, percent: int | None) -> range:
        """Return 0 to k*m, rounded down."""
        return range(demand(item_count, percent) // 100 + 1)

    def off(self, count_in: int, count_out: int, item_count: int, percent: int | None) -> Fraction:
        """Return the items above k*m."""
        return max(count_in - Fraction(demand(item_count, percent), 100), Fraction(0))

    def item_score(self, inside: bool, count_in: int, count_out: int, item_count: int, percent: int | None) -> float:
        """Return the at-most branch of Algorithm 1."""
        wanted = demand(item_count, percent)
        return at_most_score(not inside, 100 * count_in, 100 * count_out, wanted, 100 * item_count - wanted)


CONTROL = AtMost()
