"""The answer in three sentences: what SL teaches, what RL removes, what that costs in accuracy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctrlrec.evaluation.settings import SETTINGS
from ctrlrec.reporting.columns import Column
from ctrlrec.reporting.comparisons import Comparison, beyond_chance
from ctrlrec.reporting.page.material import Material
from ctrlrec.reporting.page.words import asked
from ctrlrec.reporting.rows import Row

_REPEATS, _ACCURACY = "RepeatItem@K", Column("sequential", "HR@10")
_MEASURED = {"TCP@10": "the category's share of a list is", "CPA": "the share of lists that keep the proportion is"}
_UNCONTROLLED = {"sequential", "search", "chat"}  # tasks that ask for no control


@dataclass(frozen=True)
class Sentence:
    """One of the three: the question, and what the numbers answer."""

    question: str
    text: str


def answer(material: Material) -> list[Sentence]:
    """Return the three sentences, as far as the given rows allow.

    A difference counts only if its interval leaves out 0, and a row follows a control only if its interval lies beside
    that of its own answer without control.
    """
    return [
        Sentence("What SL teaches", _taught(material)),
        Sentence("What RL removes", _removed(material)),
        Sentence("What it costs in accuracy", _cost(material)),
    ]


def _first(names: Iterable[str], preferred: str) -> str | None:
    """Return the preferred name if it is there, else the first, None without any."""
    found = list(names)
    return preferred if preferred in found else next(iter(found), None)


def _answering(material: Material, rl: bool, control: bool) -> list[Row]:
    """Return rows whose model was trained, with or without RL, on control or on recommendation alone."""
    found = []
    for row in material.rows:
        variant = material.variant(row.name)
        tasks = set(variant.get("tasks") or ())
        trained = variant.get("answers_with") == "model" and tasks
        if trained and (bool(variant.get("rl")), bool(tasks - _UNCONTROLLED)) == (rl, control):
            found.append(row)
    return found


def _controls(row: Row) -> list[Column]:
    """Return the measures of control that a row has, with those of its answer without control."""
    columns = [Column(name, setting.control.metric) for name, setting in SETTINGS.items() if setting.control]
    return [column for column in columns if column.cell(row) and column.free(row)]


def _percent(cell: Mapping[str, Any]) -> str:
    return f"{100 * cell['value']:.1f}%"


def _follows(column: Column, row: Row) -> bool:
    """Return whether a row does better when asked than when not, beyond both intervals."""
    cell, free = column.cell(row), column.free(row)
    assert cell is not None and free is not None
    return cell["high"] < free["low"] if column.metric.lower_is_better else cell["low"] > free["high"]


def _taught(material: Material) -> str:
    rows = {row.name: row for row in _answering(material, rl=False, control=True)}
    name = _first(rows, "v2")
    if name is None:
        return "No row here was fine-tuned on control without RL, so these results do not show what SL teaches."
    row = rows[name]
    columns = _controls(row)
    if not columns:
        return f"{row.label} was not asked for any control, so these results do not show what SL teaches."
    followed = [column for column in columns if _follows(column, row)]
    if not followed:
        lead = f"SL has not taught control, because {row.label} does no better when asked than when not"
    elif len(followed) == len(columns):
        lead = f"SL teaches control, and {row.label} follows every wish"
    else:
        missed = _listed(f"“{asked(column.setting)}”" for column in columns if column not in followed)
        lead = f"SL teaches most of control, and {row.label} follows every wish but {missed}"
        if len(followed) * 2 < len(columns):
            lead = f"SL teaches little of control, and {row.label} follows {len(followed)} of {len(columns)} wishes"
    by_metric: dict[str, list[Column]] = {}
    for column in columns:
        by_metric.setdefault(column.name, []).append(column)
    told = "; ".join(f"{_MEASURED.get(name, name)} {_listed(_told(column, row) for column in members)}"
                     for name, members in by_metric.items())  # fmt: skip
    return f"{lead}: {told}; in parentheses when not asked{_without(material, columns)}."


def _told(column: Column, row: Row) -> str:
    cell, free = column.cell(row), column.free(row)
    assert cell is not None and free is not None
    return f"{_percent(cell)} for “{asked(column.setting)}” ({_percent(free)})"


def _listed(texts: Iterable[str]) -> str:
    """Return texts with commas between them, and "and" before the last."""
    *others, last = texts
    return f"{', '.join(others)} and {last}" if others else last


def _without(material: Material, columns: Sequence[Column]) -> str:
    """Return the same measures of the row that was fine-tuned on recommendation alone."""
    rows = {row.name: row for row in _answering(material, rl=False, control=False)}
    name = _first(rows, "v1")
    cells = [column.cell(rows[name]) for column in columns] if name else []
    if name is None or not all(cells):
        return ""
    return f"; {rows[name].label}, fine-tuned without control, has {_listed(_percent(cell) for cell in cells if cell)}"


def _pair(material: Material) -> Comparison | None:
    """Return the comparison of a row after RL with the row before it; of several that of ``full`` with ``v2``."""
    after = {row.name for row in _answering(material, rl=True, control=True)}
    before = {row.name for row in _answering(material, rl=False, control=True)}
    pairs = {
        (found.better, found.worse): found
        for found in material.comparisons
        if found.better in after and found.worse in before
    }
    names = sorted(pairs, key=lambda names: (names[1] != "v2", names[0] != "full"))
    return pairs[names[0]] if names else None


def _points(column: Column, cell: Mapping[str, Any]) -> str:
    value, low, high = (_signed(column.metric.scaled(cell[part])) for part in ("value", "low", "high"))
    return f"{value} points [{low}, {high}]"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _side(column: Column, cell: Mapping[str, Any]) -> int:
    """Return 1 if a difference is better beyond its interval, -1 if it is worse, 0 if the interval holds 0."""
    if cell["low"] <= 0 <= cell["high"]:
        return 0
    return 1 if (cell["value"] < 0) == column.metric.lower_is_better else -1


def _removed(material: Material) -> str:
    pair = _pair(material)
    if pair is None:
        if _answering(material, rl=True, control=True):
            return "No row with RL can be compared with its model before RL here, so what RL removes is not shown."
        return "No row here was trained with RL, so these results do not show what RL removes."
    of_form = [Column(name, _REPEATS) for name in SETTINGS]
    of_control = [Column(name, setting.control.metric) for name, setting in SETTINGS.items() if setting.control]
    repeats = {column: cell for column in of_form if (cell := column.cell(pair.row))}
    controls = {column: cell for column in of_control if (cell := column.cell(pair.row))}
    parts = []
    if repeats:
        sides = [_side(column, cell) for column, cell in repeats.items()]
        fewer, more, asked_in = sides.count(1), sides.count(-1), len(sides)
        column = next(iter(repeats))
        known = beyond_chance(material.comparisons)
        sure = sum((one, pair.row.name) in known for one in repeats)
        shown = f"{asked(column.setting)} {_points(column, repeats[column])}"
        if fewer or more:
            shown += f"; {sure} of them after Holm's correction over all comparisons"
        if fewer and not more:
            lead = "RL removes repeats" if 2 * fewer >= asked_in else "RL removes some repeats"
            parts.append(
                f"{lead}: {pair.better} repeats fewer items than {pair.worse} beyond the interval in {fewer} of "
                f"{asked_in} settings ({shown})"
            )
        elif more and not fewer:
            parts.append(
                f"RL adds repeats: {pair.better} repeats more items than {pair.worse} beyond the interval in {more} of "
                f"{asked_in} settings ({shown})"
            )
        elif fewer:
            parts.append(
                f"RL moves repeats both ways: of {asked_in} settings {pair.better} repeats fewer items than "
                f"{pair.worse} in {fewer} and more in {more} ({shown})"
            )
        else:
            parts.append(
                f"RL removes no repeats that the intervals would show: {pair.better} is within the interval of "
                f"{pair.worse} in all {asked_in} settings ({shown})"
            )
    if controls:
        sides = [_side(column, cell) for column, cell in controls.items()]
        better, worse = sides.count(1), sides.count(-1)
        if better or worse:
            parts.append(
                f"of {len(sides)} measures of control {better} are better and {worse} worse beyond the interval"
            )
        else:
            parts.append(f"no measure of control moves beyond its interval (0 of {len(sides)})")
    return "; ".join(parts) + "." if parts else f"{pair.better} and {pair.worse} share no setting that shows repeats."


def _cost(material: Material) -> str:
    rows = {row.name: row for row in material.rows if _ACCURACY.cell(row)}
    pair = _pair(material)
    cell = pair.row.cell(_ACCURACY.setting, _ACCURACY.name) if pair else None
    teachers = [row for row in rows.values() if material.variant(row.name).get("answers_with") == "teacher"]
    if pair is None or cell is None:
        trained = _answering(material, rl=False, control=True) + _answering(material, rl=True, control=True)
        name = _first((row.name for row in trained if row.name in rows), "full")
        if name is None:
            return "No row here that follows control was asked without one, so its cost in accuracy is not shown."
        shown = ", ".join(_hit_rate(row) for row in (rows[name], *teachers))
        return f"Rows before and after RL cannot be compared here; when nothing is asked, HR@10 is {shown}."
    side = _side(_ACCURACY, cell)
    lead = {
        0: "No cost in accuracy shows, because the interval holds 0",
        1: "RL adds accuracy",
        -1: "RL costs accuracy",
    }[side]
    named = [rows[name] for name in (pair.better, pair.worse) if name in rows]
    shown = ", ".join(_hit_rate(row) for row in (*named, *teachers))
    change = f"when nothing is asked, HR@10 of {pair.better} differs from {pair.worse} by {_points(_ACCURACY, cell)}"
    return f"{lead}: {change} ({shown})."


def _hit_rate(row: Row) -> str:
    cell = _ACCURACY.cell(row)
    assert cell is not None
    interval = f" [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]" if "low" in cell else ""
    return f"{row.label} {_percent(cell)}{interval}"
