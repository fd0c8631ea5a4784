"""The rows of tables: a variant's numbers, and the place that its file gives it (``variant.table``)."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from ctrlrec.config.choices import PLUGINS
from ctrlrec.config.compose import variants
from ctrlrec.config.schema import RowConfig, VariantConfig

Settings = Mapping[str, Mapping[str, Mapping[str, Any]]]  # {setting: {metric: cell}}, as in metrics.json

_LAST = 10**6  # order of rows without a file
_PUBLISHED_NAMES = {"gpt35": "api"}  # names of the paper for rows of ours


@dataclass(frozen=True)
class Row:
    """A row before it stands in a table.

    Attributes:
        name: of the variant; a model's name may stand after it.
        settings: its cells by setting and metric.
        seeds: over which they are averaged.
        recorded: ``variant.table`` of the configuration that its result keeps; None for results without it.
        of_rl: whether the seeds are those of RL alone, after one SL.
    """

    name: str
    settings: Settings
    seeds: Sequence[int] = ()
    recorded: Mapping[str, Any] | None = None
    of_rl: bool = False

    @cached_property
    def place(self) -> RowConfig:
        """Return how tables show the row."""
        return place_of(self.name, self.recorded)

    @property
    def label(self) -> str:
        """Return the name, and over how many seeds the row is averaged."""
        kind_of_seeds = "RL seeds" if self.of_rl else "seeds"
        return f"{self.name} ({len(self.seeds)} {kind_of_seeds})" if len(self.seeds) > 1 else self.name

    def cell(self, setting: str, metric: str) -> Mapping[str, Any] | None:
        """Return a metric's cell, None without it."""
        return self.settings.get(setting, {}).get(metric)


def kind(name: str) -> str:
    """Return the variant of a row's name, which a constraint and a model's name may follow."""
    return name.split(" ")[0].split("+")[0]


def place_of(name: str, recorded: Mapping[str, Any] | None = None) -> RowConfig:
    """Return how tables show a row: as its own result recorded it, else as its variant's file says, else last.

    Args:
        name: of the row.
        recorded: ``variant.table`` of its result's configuration; None for results without it.
    """
    if recorded is not None:
        return RowConfig(**recorded)
    if (variant := file_of(name)) is not None:
        return variant.table
    return RowConfig(order=_LAST, hidden=[], unranked=[], own_backbone=False, compared_with=[])


def file_of(name: str) -> VariantConfig | None:
    """Return what the file of a row's variant says; None without a file."""
    return _files(os.environ.get(PLUGINS, "")).get(_PUBLISHED_NAMES.get(kind(name), kind(name)))


@cache
def _files(plugins: str) -> dict[str, VariantConfig]:
    """Return every variant's file; ``plugins`` is the variable's value, so that a change of it is seen."""
    return variants()


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Return rows as their files order them; rows with one number by name."""
    return sorted(rows, key=lambda row: (row.place.order, row.name))


def averaged(rows: Iterable[Row]) -> bool:
    """Return whether some row is averaged over seeds."""
    return any(len(row.seeds) > 1 for row in rows)


def note_of(cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the first note of several cells as part of the cell that they make; nothing without one."""
    return next(({"note": cell["note"]} for cell in cells if cell.get("note")), {})
