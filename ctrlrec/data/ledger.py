"""What was left out while reading, and why: nothing is skipped without being counted."""

from collections import Counter
from typing import Any

_EXAMPLES = 3


class Ledger:
    """Counts of skipped rows by reason, with the places of the first few."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._places: dict[str, list[str]] = {}

    def skip(self, reason: str, rows: int, places: list[str] | None = None) -> None:
        """Count ``rows`` rows as skipped for ``reason``; ``places`` name some of them as file:line."""
        if rows:
            self._rows[reason] += rows
            known = self._places.setdefault(reason, [])
            known += (places or [])[: _EXAMPLES - len(known)]

    def add(self, other: "Ledger") -> None:
        """Take over what another one has."""
        for reason, rows in other._rows.items():
            self.skip(reason, rows, other._places[reason])

    def count(self, reason: str) -> int:
        """Rows skipped for a reason so far."""
        return self._rows[reason]

    def report(self) -> dict[str, Any]:
        """By reason: number of rows and where the first ones are."""
        return {reason: {"rows": rows, "first": self._places[reason]} for reason, rows in self._rows.items()}
