"""Written titles to catalogue items, a few typing errors forgiven (released: 3 edits; spec section 7)."""

from collections.abc import Sequence
from functools import cache

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from ctrlrec.data.titles import AnswerIndex, composed

_CHARACTERS_PER_EDIT = 4


class TitleMatcher:
    """Maps a written title to a catalogue index; answers are remembered, so repeated titles cost nothing."""

    def __init__(self, catalogue_titles: Sequence[str], max_edits: int) -> None:
        """Index the titles.

        Args:
            catalogue_titles: unique; the position is the item's index.
            max_edits: Levenshtein edits forgiven, but never more than a quarter of a catalogue title's characters; 0
                matches exactly.
        """
        self._titles = [composed(title) for title in catalogue_titles]
        self._by_length: dict[int, list[int]] = {}
        for item, title in enumerate(self._titles):
            self._by_length.setdefault(len(title), []).append(item)
        self._exact = AnswerIndex(catalogue_titles)
        self._max_edits = max_edits
        self._near = cache(self._of_similar_length)
        self._known: dict[str, int | None] = {}

    def __call__(self, title: str) -> int | None:
        """Return the item of that very title, else the closest one within its edits, else None.

        Outer quotes and the Unicode normal form of a title do not count. Of equally close titles the one with the
        lowest index is taken. An empty title is not an item.
        """
        if not title:
            return None
        item = self._exact.get(title)
        if item is not None or not self._max_edits:
            return item
        if title not in self._known:
            self._known[title] = self._closest(composed(title))
        return self._known[title]

    def _closest(self, title: str) -> int | None:
        """Return the closest title's index; titles that forgive equally many edits are searched together."""
        found = []
        for edits, (items, titles) in self._near(len(title)).items():
            best = process.extractOne(title, titles, scorer=Levenshtein.distance, score_cutoff=edits)
            if best is not None:  # the first of equally good ones, in the catalogue's order
                found.append((best[1], items[best[2]]))
        return min(found)[1] if found else None

    def _of_similar_length(self, length: int) -> dict[int, tuple[list[int], list[str]]]:
        """Return items and titles that can be near one of ``length`` characters, by the edits that each forgives.

        An edit changes the length by at most one.
        """
        groups: dict[int, list[int]] = {}
        for other in range(length - self._max_edits, length + self._max_edits + 1):
            edits = min(self._max_edits, other // _CHARACTERS_PER_EDIT)
            if abs(other - length) <= edits and edits > 0:
                groups.setdefault(edits, []).extend(self._by_length.get(other, ()))
        ordered = {edits: sorted(items) for edits, items in groups.items() if items}
        return {edits: (items, [self._titles[item] for item in items]) for edits, items in ordered.items()}
