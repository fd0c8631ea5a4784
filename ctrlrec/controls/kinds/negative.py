"""I1-: none of a category."""

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

from ctrlrec.controls.base import CategoryControl


class Negative(CategoryControl):
    """No item in the category."""

    task = "category_negative"
    turn, stream, order = 1, 2, 2
    opposes = True
    lower_is_better = True
    settings: ClassVar[Mapping[str, int | None]] = {"category_negative": None}
    validation = (None,)
    sentences = (  # Listing 6
        "I don't like '{target_category}' products",
        "Please exclude any '{target_category}' item",
        "I'm not interested in '{target_category}'",
        "Don't recommend me any '{target_category}' products",
        "I don't want to browse any '{target_category}' product",
        "I hate '{target_category}' items",
    )

    def allowed(self, item_count: int, percent: int | None) -> range:
        """Return 0 alone."""
        return range(1)

    def off(self, count_in: int, count_out: int, item_count: int, percent: int | None) -> Fraction:
        """Return k - count_out: a missing item is as far off as one of the category."""
        return Fraction(item_count - count_out)

    def item_score(self, inside: bool, count_in: int, count_out: int, item_count: int, percent: int | None) -> float:
        """Return 1 outside, 0 inside."""
        return float(not inside)


CONTROL = Negative()
