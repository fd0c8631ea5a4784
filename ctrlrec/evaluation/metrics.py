"""Metrics of Tables 2 to 5 (spec section 7) over the records of ``predictions.jsonl``, with bootstrap intervals.

:func:`answer_metrics` scores one answer, :func:`per_user` all of them, :func:`score` averages over users. All values
are shares between 0 and 1. Comparisons with k*m are made in integers: ``10 * 0.7 > 7`` in floating point.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.settings import SETTINGS

Record = Mapping[str, Any]
Cell = dict[str, float | int]
Metrics = dict[str, dict[str, dict[str, Cell]]]

CATEGORY_SETTINGS = tuple(
    name for name, setting in SETTINGS.items() if setting.control and setting.control.metric == "TCP@10"
)
BOUNDS = {
    name: setting.task.removeprefix("proportion_")
    for name, setting in SETTINGS.items()
    if setting.control and setting.control.metric == "CPA"
}
_WITH_CATEGORY = (*CATEGORY_SETTINGS, *BOUNDS)
DEPTHS = (5, 10)
_CHUNK = 2**22  # drawn users held in memory at a time


@dataclass(frozen=True)
class UserScores:
    """What one setting gave each user.

    Attributes:
        users: in ascending order.
        values: by metric; float64 (n_users,), NaN where a user has no value (``*_free`` without a sequential answer).
    """

    users: tuple[str, ...]
    values: dict[str, np.ndarray]


def accuracy(record: Record, depth: int) -> tuple[float, float]:
    """HR and NDCG at ``depth``: whether and how early the target is among the first items; its first place counts.

    With one relevant item the ideal gain is 1, so NDCG is 1/log2(place + 2) of a 0-based place.
    """
    shown = record["items"][: min(depth, record["item_count"])]
    if record["target"] not in shown:
        return 0.0, 0.0
    return 1.0, 1 / math.log2(shown.index(record["target"]) + 2)


def category_share(items: Sequence[str | None], inside: frozenset[str], depth: int, item_count: int) -> float:
    """TCP@K (Equation 6): share of the first K items in the category, K cut to the number of items asked for."""
    depth = min(depth, item_count)
    return sum(item in inside for item in items[:depth]) / depth


def proportion_holds(bound: str, count: int, item_count: int, percent: int) -> bool:
    """Equation 7: whether ``count`` of ``item_count`` items obeys the bound on their percentage."""
    excess = 100 * count - item_count * percent
    return {"at_most": excess <= 0, "at_least": excess >= 0, "about": abs(excess) <= 100}[bound]


def proportion_accuracy(
    bound: str, items: Sequence[str | None], inside: frozenset[str], item_count: int, percent: int, literal: bool
) -> float:
    """CPA of an answer: every in-category item among the first k as written counts, repeats too.

    Under ``at_most`` a title that does not exist counts as one of the category, lest inventing every title be perfect;
    ``literal`` leaves that out, as Equation 7 is printed.
    """
    shown = items[:item_count]
    count = sum(item in inside for item in shown)
    if bound == "at_most" and not literal:
        count += shown.count(None)
    return float(proportion_holds(bound, count, item_count, percent))


def formatting(record: Record) -> dict[str, float]:
    """CorrectCount, RepeatItem@K, NonExist@K and InHistory@K, K the number of items asked for."""
    item_count, history = record["item_count"], set(record["history"])
    # A written title that is no item is recognised again by its wording; it must not be taken for an item.
    written = [
        (item is None, title if item is None else item)
        for title, item in zip(record["titles"][:item_count], record["items"][:item_count], strict=True)
    ]
    return {
        "CorrectCount": float(len(record["items"]) == item_count),
        "RepeatItem@K": (len(written) - len(set(written))) / item_count,
        "NonExist@K": sum(nonexistent for nonexistent, _ in written) / item_count,
        "InHistory@K": sum(not nonexistent and name in history for nonexistent, name in written) / item_count,
    }


def answer_metrics(record: Record, free: Record | None, inside: frozenset[str]) -> dict[str, float]:
    """Every metric of one answer.

    Args:
        record: a line of ``predictions.jsonl``.
        free: the same user's answer without control, scored against this record's question for the ``*_free``
            metrics; they are left out where it is None.
        inside: titles in the record's category; empty where it asks for none.
    """
    setting, item_count = record["setting"], record["item_count"]
    metrics = {}
    if setting == "formatting":
        metrics["HR@K"], metrics["NDCG@K"] = accuracy(record, item_count)
    else:
        for depth in DEPTHS:
            metrics[f"HR@{depth}"], metrics[f"NDCG@{depth}"] = accuracy(record, depth)
    answers = {"": record} if free is None else {"": record, "_free": free}
    for suffix, answer in answers.items():
        if setting in CATEGORY_SETTINGS:
            metrics[f"TCP@10{suffix}"] = category_share(answer["items"], inside, 10, item_count)
        elif setting in BOUNDS:
            question = (BOUNDS[setting], answer["items"], inside, item_count, record["proportion"])
            metrics[f"CPA{suffix}"] = proportion_accuracy(*question, literal=False)
            if not suffix:
                metrics["CPA_literal"] = proportion_accuracy(*question, literal=True)
    return metrics | formatting(record)


def per_user(predictions: Iterable[Record], catalogue: Catalogue) -> dict[str, UserScores]:
    """Every metric of every user, by setting in the order of :data:`SETTINGS`.

    Raises:
        CtrlRecError: for a record that contradicts the contract of ``predictions.jsonl`` or the catalogue.
    """
    answers: dict[str, dict[str, Record]] = {setting: {} for setting in SETTINGS}
    for record in predictions:
        _check(record, catalogue)
        if answers[record["setting"]].setdefault(str(record["user"]), record) is not record:
            raise CtrlRecError(f"predictions: user {record['user']} has two answers in setting {record['setting']}")

    @cache
    def members(category: str) -> frozenset[str]:
        row = catalogue.membership[catalogue.category_index[category]]
        return frozenset(catalogue.titles[item] for item in np.flatnonzero(row))

    scores = {}
    for setting, by_user in answers.items():
        users = tuple(sorted(by_user))
        rows = [
            answer_metrics(
                by_user[user],
                answers["sequential"].get(user),
                members(by_user[user]["category"]) if setting in _WITH_CATEGORY else frozenset(),
            )
            for user in users
        ]
        names = max(rows, key=len, default={})
        values = {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}
        if users:
            scores[setting] = UserScores(users, values)
    return scores


def score(predictions: Iterable[Record], catalogue: Catalogue, resamples: int, confidence: float, seed: int) -> Metrics:
    """The contents of ``metrics.json`` (spec section 9).

    Args:
        predictions: lines of ``predictions.jsonl`` in any order.
        catalogue: titles and categories.
        resamples: bootstrap resamples of the users.
        confidence: of the percentile intervals, such as 0.95.
        seed: of the resampling; it alone decides it.

    Returns:
        ``{"settings": {setting: {metric: {"value", "low", "high", "n"}}}}``; n is the number of users with a value.

    Raises:
        CtrlRecError: as :func:`per_user`.
    """
    scores = per_user(predictions, catalogue)
    return {"settings": {name: summarise(found.values, resamples, confidence, seed) for name, found in scores.items()}}


def paired_bootstrap(
    first: Iterable[Record],
    second: Iterable[Record],
    catalogue: Catalogue,
    resamples: int,
    confidence: float,
    seed: int,
) -> Metrics:
    """How much better ``first`` is than ``second`` on the users, settings and metrics that both have.

    Returns:
        As :func:`score`, of the differences per user; an interval without 0 is a significant difference.

    Raises:
        CtrlRecError: where the two were not asked the same.
    """
    differences = paired_differences(first, second, catalogue)
    settings = {name: summarise(found.values, resamples, confidence, seed) for name, found in differences.items()}
    return {"settings": {name: cells for name, cells in settings.items() if cells}}


def paired_differences(
    first: Iterable[Record], second: Iterable[Record], catalogue: Catalogue
) -> dict[str, UserScores]:
    """``first`` less ``second`` for each user, setting and metric that both have; see :func:`paired_bootstrap`."""
    left, right = list(first), list(second)
    asked = {(record["setting"], str(record["user"])): _question(record) for record in left}
    for record in right:
        if asked.get((record["setting"], str(record["user"])), _question(record)) != _question(record):
            raise CtrlRecError(
                f"predictions: user {record['user']} was not asked the same in setting {record['setting']}; "
                "compare rows of one data set, teacher and evaluation"
            )
    ours, theirs = per_user(left, catalogue), per_user(right, catalogue)
    differences = {}
    for setting in (name for name in SETTINGS if name in ours and name in theirs):
        a, b = ours[setting], theirs[setting]
        users, rows_a, rows_b = np.intersect1d(a.users, b.users, assume_unique=True, return_indices=True)
        values = {name: a.values[name][rows_a] - b.values[name][rows_b] for name in a.values if name in b.values}
        differences[setting] = UserScores(tuple(users.tolist()), values)
    return differences


def mean_over_seeds(scores: Sequence[Mapping[str, UserScores]]) -> dict[str, UserScores]:
    """Each user's mean over several seeds, of the users, settings and metrics that every seed has."""
    means = {}
    for setting in (name for name in SETTINGS if all(name in found for found in scores)):
        parts = [found[setting] for found in scores]
        users = sorted(set.intersection(*(set(part.users) for part in parts)))
        places = [{user: row for row, user in enumerate(part.users)} for part in parts]
        rows = [[place[user] for user in users] for place in places]
        shared = [name for name in parts[0].values if all(name in part.values for part in parts)]
        values = {
            name: np.mean([part.values[name][row] for part, row in zip(parts, rows, strict=True)], axis=0)
            for name in shared
        }
        means[setting] = UserScores(tuple(users), values)
    return means


def bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means over users drawn with replacement.

    Args:
        values: float (n_users, n_metrics).
        resamples: R.
        seed: decides the draw together with the number of users.

    Returns:
        float (R, n_metrics).
    """
    users = len(values)
    generator = np.random.default_rng(seed)
    means = []
    chunk = max(1, _CHUNK // users)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(users, size=(rows, users)) + users * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)
        means.append(counts @ values / users)
    return np.concatenate(means)


def summarise(values: Mapping[str, np.ndarray], resamples: int, confidence: float, seed: int) -> dict[str, Cell]:
    """Mean, percentile interval and number of users of each metric; metrics nobody has a value of are left out."""
    by_users: dict[bytes, list[str]] = {}
    for name, column in values.items():
        by_users.setdefault(np.isnan(column).tobytes(), []).append(name)
    cells: dict[str, Cell] = {}
    for names in by_users.values():
        table = np.stack([values[name] for name in names], axis=1)
        table = table[~np.isnan(table[:, 0])]
        if not len(table):
            continue
        means = bootstrap_means(table, resamples, seed)
        tail = (1 - confidence) / 2
        low, high = np.quantile(means, [tail, 1 - tail], axis=0)
        for position, name in enumerate(names):
            cells[name] = {
                "value": float(table[:, position].mean()),
                "low": float(low[position]),
                "high": float(high[position]),
                "n": len(table),
            }
    return {name: cells[name] for name in values if name in cells}


def _question(record: Record) -> tuple[Any, ...]:
    return tuple(record[name] for name in ("target", "item_count", "category", "proportion"))


def _check(record: Record, catalogue: Catalogue) -> None:
    """Refuse a record that cannot be scored."""

    def refuse(problem: str) -> None:
        raise CtrlRecError(f"predictions: user {record.get('user')}, setting {record.get('setting')}: {problem}")

    needed = ("setting", "user", "history", "target", "item_count", "category", "proportion", "titles", "items")
    if missing := [name for name in needed if name not in record]:
        refuse(f"no field {', '.join(missing)}")
    if record["setting"] not in SETTINGS:
        refuse(f"unknown setting; expected one of {', '.join(SETTINGS)}")
    if type(record["item_count"]) is not int or record["item_count"] < 1:
        refuse(f"item_count is {record['item_count']!r}; expected a whole number of at least 1")
    if len(record["titles"]) != len(record["items"]):
        refuse(f"{len(record['titles'])} titles but {len(record['items'])} items; expected one item or null per title")
    for title in (record["target"], *record["items"]):
        if title is not None and title not in catalogue.title_index:
            refuse(f"item '{title}' is not in the catalogue; expected a catalogue title or null")
    if record["target"] is None:
        refuse("no target")
    if record["setting"] in _WITH_CATEGORY and record["category"] not in catalogue.category_index:
        refuse(f"category {record['category']!r} is not in the catalogue")
    if record["setting"] in BOUNDS and type(record["proportion"]) is not int:
        refuse(f"proportion is {record['proportion']!r}; expected whole percents")
