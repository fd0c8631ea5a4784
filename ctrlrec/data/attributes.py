"""Attributes of items as categories of their own kind (``dataset.attributes``, spec section 12).

They are asked for in the words of every category, and are nobody's target category.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError

POPULAR, NICHE = "popular", "niche"
_POPULAR_SHARE, _NICHE_SHARE = 0.2, 0.5  # of the items, by training interactions
_YEAR = re.compile(r"\(((?:1[89]|20)\d\d)\)")


def decades(catalogue: Catalogue) -> list[str | None]:
    """Return the decade of each item, such as "1990s", from the last year in brackets in its title."""
    years = [_YEAR.findall(title) for title in catalogue.titles]
    return [f"{found[-1][:3]}0s" if found else None for found in years]


def popularity(catalogue: Catalogue) -> list[str | None]:
    """Return the band of each item: popular, the fifth with most training interactions; niche, the half with fewest.

    Items with as many interactions as the last one of a band are in it too; popular comes first.
    """
    counts = sorted(catalogue.interactions, reverse=True)
    popular = counts[math.ceil(_POPULAR_SHARE * len(counts)) - 1]
    niche = counts[-math.ceil(_NICHE_SHARE * len(counts))]
    return [POPULAR if count >= popular else NICHE if count <= niche else None for count in catalogue.interactions]


ATTRIBUTES: Mapping[str, Callable[[Catalogue], list[str | None]]] = {"decade": decades, "popularity": popularity}


def with_attributes(catalogue: Catalogue, names: Sequence[str]) -> Catalogue:
    """Return the catalogue with attributes after the categories of each item.

    Args:
        catalogue: with the categories of its source.
        names: of :data:`ATTRIBUTES`.

    Raises:
        CtrlRecError: if an attribute finds nothing, or the source has a category of its name.
    """
    known = set(catalogue.category_names)
    added = {name: ATTRIBUTES[name](catalogue) for name in names}
    for name, values in added.items():
        if not any(values):
            raise CtrlRecError(f"dataset.attributes={name}: no item has one; leave it out")
        if shared := known & {value for value in values if value is not None}:
            raise CtrlRecError(f"dataset.attributes={name}: '{min(shared)}' is a category of the data; leave it out")
    categories = tuple(
        (*own, *(value for values in added.values() if (value := values[item]) is not None))
        for item, own in enumerate(catalogue.categories)
    )
    return dataclasses.replace(catalogue, categories=categories)
