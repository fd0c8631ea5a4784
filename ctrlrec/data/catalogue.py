"""The catalogue: titles, categories and what they stand for."""

import functools
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ctrlrec.data.titles import AnswerIndex
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.files import write_jsonl

MIN_CATEGORY_ITEMS = 10  # a flat category of fewer items is too rare to be anybody's target category
_MOST_MEMBERSHIPS = 8 << 30  # bytes
_FIELDS = ("item", "title", "categories", "target_category", "interactions")


@dataclass(frozen=True)
class Catalogue:
    """Items in a fixed order; an item's position is its index everywhere in memory.

    Attributes:
        items: ids of the source.
        titles: unique; the only identity a language model sees.
        categories: path categories from short to long, or flat ones in source order.
        target_categories: the most specific category of each item.
        interactions: training interactions (items that the split holds out are not counted).
    """

    items: tuple[str, ...]
    titles: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    target_categories: tuple[str, ...]
    interactions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        """Every category, sorted."""
        return tuple(sorted({name for names in self.categories for name in names}))

    @cached_property
    def category_index(self) -> dict[str, int]:
        """Row of each category in :attr:`membership`."""
        return {name: row for row, name in enumerate(self.category_names)}

    @cached_property
    def membership(self) -> np.ndarray:
        """Whether an item is in a category; bool (n_categories, n_items).

        Raises:
            CtrlRecError: if the table of categories and items would not fit into memory.
        """
        if len(self.category_names) * len(self) > _MOST_MEMBERSHIPS:
            raise CtrlRecError(
                f"{len(self.category_names)} categories of {len(self)} items are too many; raise "
                "dataset.min_item_interactions, or leave rare categories out of the metadata"
            )
        inside = np.zeros((len(self.category_names), len(self)), dtype=bool)
        for item, names in enumerate(self.categories):
            inside[[self.category_index[name] for name in names], item] = True
        return inside

    @cached_property
    def category_sizes(self) -> np.ndarray:
        """Items in each category; int (n_categories,)."""
        sizes = Counter(name for names in self.categories for name in set(names))
        return np.array([sizes[name] for name in self.category_names])

    @cached_property
    def category_bits(self) -> tuple[int, ...]:
        """The categories of each item as a number with one bit a category, which makes overlaps cheap to count."""
        return tuple(sum(1 << self.category_index[name] for name in set(names)) for names in self.categories)

    @cached_property
    def total_interactions(self) -> int:
        """All training interactions."""
        return sum(self.interactions)

    @cached_property
    def title_index(self) -> dict[str, int]:
        """Item index of each title."""
        return {title: item for item, title in enumerate(self.titles)}

    @cached_property
    def answer_index(self) -> AnswerIndex:
        """Item index of each title, by itself and as an answer gives it back."""
        return AnswerIndex(self.titles)

    def save(self, path: Path) -> None:
        """Write ``catalogue.jsonl`` (spec section 9)."""
        columns = self.items, self.titles, self.categories, self.target_categories, self.interactions
        write_jsonl(path, (dict(zip(_FIELDS, row, strict=True)) for row in zip(*columns, strict=True)))

    @classmethod
    def load(cls, path: Path) -> "Catalogue":
        """Read ``catalogue.jsonl``.

        Raises:
            CtrlRecError: for a line that is not an item, or two items with one title.
        """
        rows = []
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    rows.append((*(row[name] for name in _FIELDS[:2]), tuple(row["categories"]), row["target_category"],
                                 row["interactions"]))  # fmt: skip
                except (ValueError, KeyError, TypeError) as error:
                    raise CtrlRecError(
                        f"{path}:{number}: not an item with {', '.join(_FIELDS)} ({error}); make the data stage again"
                    ) from None
        catalogue = cls(*(zip(*rows, strict=True) if rows else ((),) * len(_FIELDS)))
        if len(catalogue.title_index) != len(catalogue):
            raise CtrlRecError(f"{path}: two items share a title; make the data stage again")
        return catalogue


def is_path(categories: Sequence[Sequence[str]]) -> bool:
    """Return whether every item's categories are a chain of prefixes joined by ", ", and one chain has at least two."""
    chains = all(
        longer.startswith(shorter + ", ") for names in categories for shorter, longer in itertools.pairwise(names)
    )
    return chains and any(len(names) > 1 for names in categories)


def _depth(names: Sequence[str], name: str) -> int:
    return sum(name.startswith(other + ", ") for other in names)


def target_categories(categories: Sequence[Sequence[str]], flat: bool) -> list[str]:
    """Return the most specific category of each item (spec section 2).

    Of paths the one with most prefixes among the item's own categories, the first among equals: the last of a single
    path, the end of the deepest if two items with one title were joined. Of flat categories the rarest that at
    least ``MIN_CATEGORY_ITEMS`` items have, the first by name among equals, and the most common if none has that many.
    """
    if not flat:
        return [max(names, key=functools.partial(_depth, names)) for names in categories]
    sizes = Counter(name for names in categories for name in set(names))
    chosen = []
    for names in categories:
        common = [name for name in names if sizes[name] >= MIN_CATEGORY_ITEMS]
        if common:
            chosen.append(min(common, key=lambda name: (sizes[name], name)))
        else:
            chosen.append(min(names, key=lambda name: (-sizes[name], name)))
    return chosen
