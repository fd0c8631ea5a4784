"""A metric in a setting as tables show it, and which rows are marked best in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctrlrec.evaluation.metrics import Metric, metric_of
from ctrlrec.evaluation.metrics.base import FREE
from ctrlrec.reporting.render import Mark
from ctrlrec.reporting.rows import Row

# A row is silent in a setting if hardly any of its answers has the number of items asked for.
_SILENT_VALUE, _SILENT_HIGH = 0.01, 0.05


@dataclass(frozen=True)
class Column:
    """A metric in a setting."""

    setting: str
    name: str

    @property
    def metric(self) -> Metric:
        """Return the metric's definition."""
        found = metric_of(self.setting, self.name)
        assert found is not None, f"no module of evaluation/metrics defines {self.name} in {self.setting}"
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Return the metric, and after it the one of the answer without control."""
        return (self.name, self.name + FREE) if self.metric.free else (self.name,)

    def cell(self, row: Row) -> Mapping[str, Any] | None:
        """Return the row's cell."""
        return row.cell(self.setting, self.name)

    def free(self, row: Row) -> Mapping[str, Any] | None:
        """Return the row's cell of the answer without control."""
        return row.cell(self.setting, self.name + FREE) if self.metric.free else None

    def bounds(self, number: Mapping[str, Any]) -> tuple[float, float, float] | None:
        """Return low, value and high of a cell as tables scale them; None without an interval."""
        if "low" not in number:
            return None
        low, value, high = (self.metric.scaled(number[part]) for part in ("low", "value", "high"))
        return low, value, high

    def marks(self, rows: Sequence[Row], shown: Sequence[str | None], table: str) -> list[Mark]:
        """Return which rows are best and second in the column.

        Rows that their file leaves unranked do not compete, nor do silent rows or numbers of an earlier definition.

        Args:
            rows: of the table.
            shown: their numbers as printed; None without one.
            table: its name in ``variant.table.unranked``.
        """
        competing = [
            text if table not in row.place.unranked and not self.silent(row) and not (self.cell(row) or {}).get("note")
            else None
            for row, text in zip(rows, shown, strict=True)
        ]  # fmt: skip
        return marks(competing, self.metric.lower_is_better)

    def silent(self, row: Row) -> bool:
        """Return whether hardly any of the row's answers in the setting has the number of items asked for.

        Nothing said is nothing wrong in the eyes of some metrics, so such a row is never marked best.
        """
        correct = row.cell(self.setting, "CorrectCount")
        return correct is not None and (correct["value"] < _SILENT_VALUE or correct.get("high", 1.0) < _SILENT_HIGH)


def marks(shown: Sequence[str | None], falling: bool) -> list[Mark]:
    """Return best and second of the numbers as printed, equals alike; nothing if none is better than another.

    Args:
        shown: printed numbers; None does not compete.
        falling: whether smaller is better.
    """
    ranking = sorted({float(text) for text in shown if text is not None}, reverse=not falling)
    if len(ranking) < 2:
        return [""] * len(shown)
    names: dict[float, Mark] = dict(zip(ranking, ("best", "second"), strict=False))  # type: ignore[arg-type]
    return ["" if text is None else names.get(float(text), "") for text in shown]


def sizes(cells: Sequence[Mapping[str, Any] | None]) -> str:
    """Return over how many users or questions numbers are, each size once: MMLU / GSM8K."""
    return " / ".join(dict.fromkeys(str(cell["n"]) for cell in cells if cell and "n" in cell))


class Notes:
    """Footnotes of a grid: a letter for each text, in the order of their use."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def letter(self, *cells: Mapping[str, Any] | None) -> str:
        """Return the letter of the first note that some of the cells have, empty without one."""
        text = next((cell["note"] for cell in cells if cell and cell.get("note")), "")
        return self._letters.setdefault(text, chr(ord("a") + len(self._letters))) if text else ""

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the notes with their letters in front."""
        return tuple(f"{letter}: {text}" for text, letter in self._letters.items())
