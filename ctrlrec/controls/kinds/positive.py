"""I1+: more of a category."""

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

from ctrlrec.controls.base import CategoryControl


class Positive(CategoryControl):
    """Every item in the category."""

    task = "category_positive"
    turn, stream, order = 0, 1, 1
    settings: ClassVar[Mapping[str, int | None]] = {"category_positive": None}
    validation = (None,)
    sentences = (  # Listing 5
        "I like '{target_category}' products",
        "Please recommend some '{target_category}' items",
        "I'm interested in '{target_category}'",
        "I would like to buy some '{target_category}' products",
        "I would like to browse some '{target_category}' products",
        "I prefer in '{target_category}' item",
    )

    def allowed(self, item_count: int, percent: int | None) -> range:
        """Return k alone."""
        return range(item_count, item_count + 1)

    def off(self, count_in: int, count_out: int, item_count: int, percent: int | None) -> Fraction:
        """Return k - count_in."""
        return Fraction(item_count - count_in)

    def item_score(self, inside: bool, count_in: int, count_out: int, item_count: int, percent: int | None) -> float:
        """Return 1 inside, 0 outside."""
        return float(inside)

    def released_list_score(
        self, count_in: int, count_out: int, item_count: int, percent: int | None, category_size: int
    ) -> float:
        """Return 1 over the distance plus one, to what the category can supply."""
        return 1 / (min(item_count, category_size) - count_in + 1)


CONTROL = Positive()
