"""Written titles to catalogue items, a few typing errors forgiven (released: 3 edits)."""

from collections.abc import Sequence
from functools import cache

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from ctrlrec.data.titles import AnswerIndex, composed


class TitleMatcher:
    """Maps a written title to a catalogue index; answers are remembered, so repeated titles cost nothing."""

    def __init__(self, catalogue_titles: Sequence[str], max_edits: int) -> None:
        """Index the titles.

        Args:
            catalogue_titles: unique; the position is the item's index.
            max_edits: Levenshtein edits forgiven; 0 matches exactly.
        """
        self._index = {composed(title): item for item, title in enumerate(catalogue_titles)}
        self._exact = AnswerIndex(catalogue_titles)
        self._max_edits = max_edits
        self._near = cache(self._of_similar_length)
        self._known: dict[str, int | None] = {}

    def __call__(self, title: str) -> int | None:
        """Return the item of that very title, else the closest within ``max_edits``, else None.

        Outer quotes and the Unicode normal form of a title do not count.

        Of equally close titles the one with the lowest index is taken.
        """
        item = self._exact.get(title)
        if item is not None or not self._max_edits:
            return item
        if title not in self._known:
            self._known[title] = self._closest(title)
        return self._known[title]

    def _closest(self, title: str) -> int | None:
        title = composed(title)
        # extractOne keeps the first of equally good choices, and choices come in the catalogue's order.
        found = process.extractOne(
            title, self._near(len(title)), scorer=Levenshtein.distance, score_cutoff=self._max_edits
        )
        return None if found is None else self._index[found[0]]

    def _of_similar_length(self, length: int) -> list[str]:
        """Titles that can be near one of ``length`` characters: an edit changes the length by at most one."""
        return [title for title in self._index if abs(len(title) - length) <= self._max_edits]
