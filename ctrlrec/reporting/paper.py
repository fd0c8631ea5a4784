"""What Tables 2 to 5 of the paper and Table 8 of blends hold: columns, and printed numbers (``published.yaml``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from ctrlrec.evaluation.metrics import metrics_of
from ctrlrec.reporting.columns import Column
from ctrlrec.reporting.rows import Row

Groups = tuple[tuple[str, tuple[Column, ...]], ...]


@dataclass(frozen=True)
class Table:
    """A table of the paper: its title and groups of columns from left to right."""

    caption: str
    printed: Groups

    @property
    def groups(self) -> Groups:
        """Return the paper's groups; after their columns stand those that metrics ask for (``Metric.columns``)."""
        groups, seen = [], set()
        for title, columns in self.printed:
            setting = columns[0].setting
            named = {column.name for _, others in self.printed for column in others if column.setting == setting}
            further = () if setting in seen else tuple(
                Column(setting, name)
                for name, metric in metrics_of(setting).items()
                if name not in named and (metric.columns is None or setting in metric.columns)
            )  # fmt: skip
            seen.add(setting)
            groups.append((title, (*columns, *further)))
        return tuple(groups)

    @property
    def columns(self) -> list[Column]:
        """Return all columns from left to right."""
        return [column for _, columns in self.groups for column in columns]


def _group(title: str, setting: str, *metrics: str) -> tuple[str, tuple[Column, ...]]:
    return title, tuple(Column(setting, metric) for metric in metrics)


_OF_BLENDS = ("HR@10", "NDCG@10", "all_satisfied", "satisfied", "violation", "regret")

TABLES: Mapping[int, Table] = {
    2: Table(
        "Sequential recommendation (I0)",
        (_group("", "sequential", "HR@10", "NDCG@10", "HR@5", "NDCG@5"),),
    ),
    3: Table(
        "Category control (I1), in parentheses the same model's answer without it",
        (
            _group("I1+C", "category_positive", "HR@10", "NDCG@10", "TCP@10"),
            _group("I1-C", "category_negative", "HR@10", "NDCG@10", "TCP@10"),
        ),
    ),
    4: Table(
        "Category proportion control (I2), in parentheses the same model's answer without it",
        (
            _group("≤20%", "at_most_20", "HR@10", "NDCG@10", "CPA"),
            _group("≈30%", "about_30", "HR@10", "NDCG@10", "CPA"),
            _group("≥30%", "at_least_30", "HR@10", "NDCG@10", "CPA"),
        ),
    ),
    5: Table(
        "Formatting quality and general ability",
        (
            _group("Formatting", "formatting", "CorrectCount", "RepeatItem@K", "NonExist@K", "InHistory@K"),
            _group("Precision", "formatting", "HR@K", "NDCG@K"),
            _group("Generalization", "general", "MMLU", "GSM8K"),
        ),
    ),
    8: Table(
        "Blended controls, in parentheses the same model's answer without them",
        (
            _group("2 conditions", "blend_2", *_OF_BLENDS),
            _group("3 conditions", "blend_3", *_OF_BLENDS),
            _group("2 never trained together", "blend_unseen", *_OF_BLENDS),
        ),
    ),
}


def published_numbers(table: str) -> dict[str, dict[str, Any]]:
    """Return what ``published.yaml`` keeps of a table, by the paper's data sets."""
    text = resources.files("ctrlrec.reporting").joinpath("published.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text).get(table, {})


def published_rows(number: int, dataset: str) -> list[Row]:
    """Return the rows that the paper prints in a table, without intervals; none for other data.

    Args:
        number: of the table, 2 to 5.
        dataset: ``movie`` or ``steam`` in any case, or the name of one of the two in ``dataset=``.
    """
    dataset = dataset.removeprefix("amazon_")
    printed = {name.lower(): rows for name, rows in published_numbers(f"table{number}").items()}
    columns = [
        (column, name) for _, group in TABLES[number].printed for column in group for name in column.names
    ]  # fmt: skip
    rows = []
    for row, values in printed.get(dataset.lower(), {}).items():
        settings: dict[str, dict[str, dict[str, float]]] = {}
        # General ability, the last columns, is not printed for all rows.
        for (column, name), value in zip(columns, values, strict=False):
            if value is not None:
                share = value / 100 if column.metric.unit == "%" else value
                settings.setdefault(column.setting, {})[name] = {"value": share}
        rows.append(Row(row, settings))
    return rows
