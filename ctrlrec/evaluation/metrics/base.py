"""The definition of a metric, and the answer that it scores.

A module in this folder, or in ``evaluation/metrics/`` of a plug-in folder, holds a tuple ``METRICS``. Each metric there
is computed for every user, written to ``metrics.json`` with its interval, and shown in the summary, the tables and the
comparisons.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ctrlrec.data.catalogue import Catalogue

Record = Mapping[str, Any]  # a line of predictions.jsonl
FREE = "_free"  # after a metric's name: the same of the answer without control


@dataclass(frozen=True)
class Answer:
    """An answer, and the question it is scored against.

    Attributes:
        question: line of ``predictions.jsonl``; of another answer's if this one is scored as the one without control.
        titles: as written, all of them.
        items: the catalogue title that each is, or None.
        inside: titles in the question's category; empty if it asks for none.
        catalogue: titles and categories.
    """

    question: Record
    titles: Sequence[str]
    items: Sequence[str | None]
    inside: frozenset[str]
    catalogue: Catalogue

    @property
    def item_count(self) -> int:
        """Return k, the number of items asked for."""
        return self.question["item_count"]

    @cached_property
    def scored(self) -> Sequence[str | None]:
        """Return the first k items; what stands after them is not scored."""
        return self.items[: self.item_count]

    @cached_property
    def written(self) -> list[tuple[bool, str]]:
        """Return for each of the first k items whether it is not in the catalogue, and its title.

        A written title that is not an item is recognised again by its wording. It must not be taken for an item.
        """
        titles = self.titles[: self.item_count]
        return [
            (item is None, title if item is None else item) for title, item in zip(titles, self.scored, strict=True)
        ]

    def missing(self, depth: int | None = None) -> int:
        """Return how many of the first ``depth`` items (None: of all k) were not written."""
        return max(0, (self.item_count if depth is None else depth) - len(self.items))


@dataclass(frozen=True)
class Metric:
    """A number that every answer of a setting has.

    Attributes:
        name: in ``metrics.json`` and in all tables, such as ``HR@10``.
        function: returns the value of one answer, or None if the answer has none. None if another stage of the
            evaluation computes the metric.
        lower_is_better: which direction is better.
        unit: "%" for a share between 0 and 1 that is printed as percent, "" for one that is printed as a fraction.
            Anything else is the unit of a number without limits, printed as it is.
        settings: that have the metric; None for all.
        free: also score the same user's answer without control, as ``NAME_free``.
        summary: show it in the summary and the comparisons of its family.
        columns: settings in whose table it stands after the paper's columns; None for all its settings.
        family: metrics that have a summary and comparisons of their own; empty for those of the paper's questions.
        corpus: in place of ``function``, for a value of all answers together: returns one number for each answer of a
            setting, (n_answers,), whose mean is the value.
    """

    name: str
    function: Callable[[Answer], float | None] | None
    lower_is_better: bool = False
    unit: str = "%"
    settings: tuple[str, ...] | None = None
    free: bool = False
    summary: bool = True
    columns: tuple[str, ...] | None = None
    family: str = ""
    corpus: Callable[[Sequence[Answer]], np.ndarray] | None = None

    @property
    def is_share(self) -> bool:
        """Return whether values lie between 0 and 1."""
        return self.unit in ("%", "")

    @property
    def head(self) -> str:
        """Return name, unit and the direction that is better, as the head of a column."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.name}{unit} {self.arrow}"

    @property
    def arrow(self) -> str:
        """Return an arrow in the direction that is better."""
        return "↓" if self.lower_is_better else "↑"

    def shown(self, value: float) -> str:
        """Return a value as the paper prints it: percent with two digits, a fraction with four."""
        return f"{value:.4f}" if self.unit == "" else f"{self.scaled(value):.2f}"

    def scaled(self, value: float) -> float:
        """Return a share in percent, any other value as it is."""
        return 100 * value if self.is_share else value
