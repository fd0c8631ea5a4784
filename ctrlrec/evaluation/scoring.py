"""Every metric of every user from the lines of ``predictions.jsonl``, and their averages (spec section 7).

:func:`answer_metrics` scores one answer, :func:`per_user` all of them, :func:`score` averages over users.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ctrlrec.controls.instruction import Condition
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.intervals import DIFFERENCE, SHARE, Cell, Limits, summarise
from ctrlrec.evaluation.metrics import Answer, Record, limits_of, metric_of, metrics_of
from ctrlrec.evaluation.metrics.base import FREE
from ctrlrec.evaluation.settings import SETTINGS, question_of

Metrics = dict[str, dict[str, dict[str, Cell]]]


@dataclass(frozen=True)
class UserScores:
    """The scores of each user in one setting.

    Attributes:
        users: in ascending order.
        values: by metric; float64 (n_users,), NaN for a user without a value.
    """

    users: tuple[str, ...]
    values: dict[str, np.ndarray]


def answer_metrics(answer: Answer, free: Record | None) -> dict[str, float]:
    """Return every metric of one answer.

    Args:
        answer: with its question.
        free: the same user's answer without control, scored against this question for the ``*_free`` metrics; None to
            leave them out.
    """
    answers = {"": answer}
    if free is not None:
        answers[FREE] = replace(answer, titles=free["titles"], items=free["items"])
    values: dict[str, float] = {}
    for name, metric in metrics_of(answer.question["setting"]).items():
        for suffix, scored in answers.items():
            if metric.function is not None and (metric.free or not suffix):
                value = metric.function(scored)
                values[name + suffix] = math.nan if value is None else float(value)
    return values


def per_user(predictions: Iterable[Record], catalogue: Catalogue) -> dict[str, UserScores]:
    """Return every metric of every user, by setting in the order of :data:`SETTINGS`.

    Raises:
        CtrlRecError: for a record that contradicts the contract of ``predictions.jsonl`` or the catalogue.
    """
    records: dict[str, dict[str, Record]] = {setting: {} for setting in SETTINGS}
    for record in predictions:
        _check(record, catalogue)
        if records[record["setting"]].setdefault(str(record["user"]), record) is not record:
            raise CtrlRecError(f"predictions: user {record['user']} has two answers in setting {record['setting']}")

    @cache
    def members(category: str) -> frozenset[str]:
        row = catalogue.membership[catalogue.category_index[category]]
        return frozenset(catalogue.titles[item] for item in np.flatnonzero(row))

    scores = {}
    for setting, by_user in records.items():
        users = tuple(sorted(by_user))
        rows, answers = [], []
        for user in users:
            record = by_user[user]
            inside = members(record["category"]) if SETTINGS[setting].control else frozenset()
            answer = Answer(record, record["titles"], record["items"], inside, catalogue)
            rows.append(answer_metrics(answer, records["sequential"].get(user)))
            answers.append(answer)
        names = dict.fromkeys(name for row in rows for name in row)
        if users:
            values = {name: np.array([row.get(name, math.nan) for row in rows]) for name in names}
            together = {name: metric.corpus for name, metric in metrics_of(setting).items() if metric.corpus}
            scores[setting] = UserScores(users, values | {name: of(answers) for name, of in together.items()})
    return scores


def score(predictions: Iterable[Record], catalogue: Catalogue, resamples: int, confidence: float, seed: int) -> Metrics:
    """Return the contents of ``metrics.json`` (spec section 9).

    Args:
        predictions: lines of ``predictions.jsonl`` in any order.
        catalogue: titles and categories.
        resamples: bootstrap resamples of the users.
        confidence: of the intervals, such as 0.95.
        seed: of the resampling; it alone decides it.

    Returns:
        ``{"settings": {setting: {metric: {"value", "low", "high", "n"}}}}``; n is the number of users with a value.

    Raises:
        CtrlRecError: as :func:`per_user`.
    """
    settings = {}
    for setting, scores in per_user(predictions, catalogue).items():
        settings[setting] = _summarised(setting, scores.values, resamples, confidence, seed, SHARE)
    return {"settings": settings}


def _summarised(
    setting: str,
    values: Mapping[str, np.ndarray],
    resamples: int,
    confidence: float,
    seed: int,
    limits: Limits,
) -> dict[str, Cell]:
    """Summarise the metrics of a setting, shares within ``limits``.

    Each family of metrics is summarised alone, because the rounding of a product depends on its number of columns. The
    values of a corpus metric are influences and no shares: its mean and interval are cut to the limits.
    """
    families: dict[str, dict[str, np.ndarray]] = {}
    together = set()
    for name, column in values.items():
        metric = metric_of(setting, name)
        families.setdefault(metric.family if metric else "", {})[name] = column
        if metric and metric.corpus:
            together.add(name)
    shares = [name for name in values if limits_of(setting, name)]
    of_users = {name: limits for name in shares if name not in together}
    cells: dict[str, Cell] = {}
    for part in families.values():
        cells |= summarise(part, resamples, confidence, seed, of_users)
    for name in together.intersection(shares, cells):
        cells[name] |= {part: min(max(cells[name][part], limits[0]), limits[1]) for part in ("value", "low", "high")}
    return {name: cells[name] for name in values if name in cells}


def paired_differences(
    first: Iterable[Record], second: Iterable[Record], catalogue: Catalogue
) -> dict[str, UserScores]:
    """Return ``first`` less ``second`` for each user, setting and metric that both have.

    Raises:
        CtrlRecError: if the two were not asked the same, or as :func:`per_user`.
    """
    left, right = list(first), list(second)
    asked = {(record["setting"], str(record["user"])): question_of(record) for record in left}
    for record in right:
        if asked.get((record["setting"], str(record["user"])), question_of(record)) != question_of(record):
            raise CtrlRecError(
                f"predictions: user {record['user']} was not asked the same in setting {record['setting']}; "
                "compare rows of one data set, teacher and evaluation"
            )
    shared = asked.keys() & {(record["setting"], str(record["user"])) for record in right}
    if len(shared) < max(len(left), len(right)):  # values of all answers together are of the same users then
        left, right = ([one for one in part if (one["setting"], str(one["user"])) in shared] for part in (left, right))
    ours, theirs = per_user(left, catalogue), per_user(right, catalogue)
    differences = {}
    for setting in (name for name in SETTINGS if name in ours and name in theirs):
        a, b = ours[setting], theirs[setting]
        users, rows_a, rows_b = np.intersect1d(a.users, b.users, assume_unique=True, return_indices=True)
        values = {name: a.values[name][rows_a] - b.values[name][rows_b] for name in a.values if name in b.values}
        differences[setting] = UserScores(tuple(users.tolist()), values)
    return differences


def mean_over_seeds(scores: Sequence[Mapping[str, UserScores]]) -> dict[str, UserScores]:
    """Return each user's mean over several seeds, of the users, settings and metrics that every seed has."""
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


def summarise_differences(
    differences: Mapping[str, UserScores], resamples: int, confidence: float, seed: int
) -> dict[str, dict[str, Cell]]:
    """Return mean difference, interval and number of users of each setting and metric; empty settings are left out."""
    settings = {}
    for setting, scores in differences.items():
        settings[setting] = _summarised(setting, scores.values, resamples, confidence, seed, DIFFERENCE)
    return {setting: cells for setting, cells in settings.items() if cells}


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
    control = SETTINGS[record["setting"]].control
    if control and record["category"] not in catalogue.category_index:
        refuse(f"category {record['category']!r} is not in the catalogue")
    if control and control.takes_percent and type(record["proportion"]) is not int:
        refuse(f"proportion is {record['proportion']!r}; expected whole percents")
    if SETTINGS[record["setting"]].conditions:
        if missing := [name for name in ("constraints", "best", "best_rank") if not record.get(name)]:
            refuse(f"nothing in {', '.join(missing)}, which a blend has")
        if len(record.get("teacher_rank", ())) != len(record["items"]):
            refuse("expected one teacher_rank, a number or null, per item")
        for constraint in record["constraints"]:
            if Condition.read(constraint).category not in catalogue.category_index:
                refuse(f"category {constraint['category']!r} is not in the catalogue")
