"""I2 ~m: about a share of a category."""

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

from ctrlrec.controls.base import ProportionControl, demand


class About(ProportionControl):
    """About m percent of the list in the category, within one item."""

    task = "proportion_about"
    turn, stream, order = 0, 5, 4
    settings: ClassVar[Mapping[str, int | None]] = {"about_30": 30}
    validation = (50,)
    sentences = (
        "In the recommendation list, the proportion of '{target_category}' items should be approximately "
        "{category_proportion}",
    )

    def allowed(self, item_count: int, percent: int | None) -> range:
        """Return the counts within one item of k*m."""
        wanted = demand(item_count, percent)
        return range(max(0, -((100 - wanted) // 100)), min(item_count, (wanted + 100) // 100) + 1)

    def off(self, count_in: int, count_out: int, item_count: int, percent: int | None) -> Fraction:
        """Return the distance to k*m."""
        return abs(count_in - Fraction(demand(item_count, percent), 100))

    def item_score(self, inside: bool, count_in: int, count_out: int, item_count: int, percent: int | None) -> float:
        """Return the about branch of Algorithm 1."""
        wanted = demand(item_count, percent)
        if inside:
            return 1.0 if 100 * count_in <= wanted else 0.0
        if 100 * count_in >= wanted:
            return 1.0
        return 0.5 if 100 * count_out <= 100 * item_count - wanted else 0.0


CONTROL = About()
