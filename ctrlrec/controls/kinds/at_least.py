"""I2 >=m: at least a share of a category."""

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

from ctrlrec.controls.base import ProportionControl, at_most_score, demand


class AtLeast(ProportionControl):
    """At least m percent of the list in the category."""

    task = "proportion_at_least"
    turn, stream, order = 2, 4, 5
    settings: ClassVar[Mapping[str, int | None]] = {"at_least_30": 30}
    sentences = (
        "In the recommendation list, the proportion of '{target_category}' items should be more than or equal to "
        "{category_proportion}",
    )

    def allowed(self, item_count: int, percent: int | None) -> range:
        """Return k*m, rounded up, to k."""
        return range(-(-demand(item_count, percent) // 100), item_count + 1)

    def off(self, count_in: int, count_out: int, item_count: int, percent: int | None) -> Fraction:
        """Return the items that are missing to k*m."""
        return max(Fraction(demand(item_count, percent), 100) - count_in, Fraction(0))

    def item_score(self, inside: bool, count_in: int, count_out: int, item_count: int, percent: int | None) -> float:
        """Return the at-least branch of Algorithm 1, the mirror of at most.

        Its first test is count_in > k*m: as printed, "> k", it could never hold (spec section 5).
        """
        wanted = demand(item_count, percent)
        return at_most_score(inside, 100 * count_out, 100 * count_in, 100 * item_count - wanted, wanted)


CONTROL = AtLeast()
