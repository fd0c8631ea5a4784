"""A count of what was left out while reading, and why: nothing is skipped without being counted."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

_EXAMPLES = 3


class Ledger:
    """Counts of rows left out by reason, with the places of the first few.

    A row is *unreadable* if it does not hold what its file should; a file may have a tenth of these. All others are
    left out by a rule of the method (spec section 2), whatever their number.
    """

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._places: dict[str, list[str]] = {}
        self._expected: dict[str, str] = {}

    def unreadable(self, reason: str, rows: int, places: Sequence[str], expected: str) -> None:
        """Count ``rows`` rows as unreadable for ``reason``.

        Args:
            reason: what is wrong.
            rows: how many.
            places: some of them as file:line, the first in front.
            expected: what such a row should hold.
        """
        self.skip(reason, rows, places)
        self._expected[reason] = expected

    def skip(self, reason: str, rows: int, places: Sequence[str]) -> None:
        """Count ``rows`` rows as left out by a rule; ``places`` name some of them as file:line."""
        if rows:
            self._rows[reason] += rows
            known = self._places.setdefault(reason, [])
            known += places[: _EXAMPLES - len(known)]

    def add(self, other: "Ledger") -> None:
        """Take over the counts of another ledger."""
        self._expected |= other._expected
        for reason, rows in other._rows.items():
            self.skip(reason, rows, other._places[reason])

    def total(self) -> int:
        """Return the number of all rows left out."""
        return self._rows.total()

    def faults(self) -> dict[str, int]:
        """Return the number of unreadable rows by reason, the most frequent first."""
        return {reason: rows for reason, rows in self._rows.most_common() if reason in self._expected}

    def expected(self, reason: str) -> str:
        """Return what rows unreadable for this reason should hold."""
        return self._expected[reason]

    def first_line(self, reason: str) -> int:
        """Return the line of the first row left out for a reason."""
        return int(self._places[reason][0].rpartition(":")[2])

    def report(self) -> dict[str, Any]:
        """Return, by reason, the number of rows and the places of the first ones."""
        return {reason: {"rows": rows, "first": self._places[reason]} for reason, rows in self._rows.items()}
