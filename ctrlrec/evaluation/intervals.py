"""Means, intervals and p-values: what a sample of users, and of seeds, leaves open (spec section 7)."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincinv, ndtri, stdtrit

Cell = dict[str, float | int]
Limits = tuple[float, float]  # the smallest and the largest value that one user can have

SHARE: Limits = (0.0, 1.0)
DIFFERENCE: Limits = (-1.0, 1.0)  # of two shares
_CHUNK = 2**22  # drawn users held in memory at a time
_SMALLEST = 1e-12  # p-values are computed down to here


def bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return means over users drawn with replacement.

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


def summarise(
    values: Mapping[str, np.ndarray],
    resamples: int,
    confidence: float,
    seed: int,
    limits: Mapping[str, Limits] | None = None,
) -> dict[str, Cell]:
    """Return mean, interval and number of users of each metric; metrics without any value are left out.

    The interval is the bootstrap's percentile interval. If all users agree, resampling has no width, and
    :func:`agreement` takes its place for metrics with known limits.

    Args:
        values: by metric; float (n_users,), NaN for users without a value.
        resamples: of the users.
        confidence: of the intervals.
        seed: of the resampling.
        limits: smallest and largest value of a user, by metric.
    """
    by_users: dict[bytes, list[str]] = {}
    for name, column in values.items():
        by_users.setdefault(np.isnan(column).tobytes(), []).append(name)
    cells: dict[str, Cell] = {}
    for names in by_users.values():
        table = np.stack([values[name] for name in names], axis=1)
        table = table[~np.isnan(table[:, 0])]
        if not len(table):
            continue
        tail = (1 - confidence) / 2
        ends = np.quantile(bootstrap_means(table, resamples, seed), [tail, 1 - tail], axis=0)
        for position, name in enumerate(names):
            value, (low, high) = float(table[:, position].mean()), ends[:, position].tolist()
            if (table[:, position] == table[0, position]).all():
                value = float(table[0, position])
                if limits and name in limits:
                    low, high = agreement(value, len(table), confidence, limits[name])
            cells[name] = {"value": value, "low": low, "high": high, "n": len(table)}
    return {name: cells[name] for name in values if name in cells}


def agreement(value: float, users: int, confidence: float, limits: Limits = SHARE) -> tuple[float, float]:
    """Return the interval of a mean over users who all have one value.

    None of n users differs, so by Clopper and Pearson at most a share u = 1 - (alpha/2)^(1/n) of all users does. These
    may have any value within the limits. For a share of 0 or 1 that is Clopper-Pearson's interval: 0 of 300 gives
    [0, 1.2%]. For differences that are all 0 it is [-1.2%, 1.2%].
    """
    others = float(betaincinv(1, users, (1 + confidence) / 2))
    return value - others * (value - limits[0]), value + others * (limits[1] - value)


def mean_of_seeds(cells: Sequence[Cell]) -> Cell:
    """Return the mean over seeds of one metric, with an interval over users alone.

    All seeds are asked the same users, so what a sample of users leaves open does not average out. Each side is the
    mean distance between a seed's value and the end of its interval. n is the smallest number of users.
    """
    mean = fmean(cell["value"] for cell in cells)
    return {
        "value": mean,
        "low": mean - fmean(cell["value"] - cell["low"] for cell in cells),
        "high": mean + fmean(cell["high"] - cell["value"] for cell in cells),
        "n": min(cell["n"] for cell in cells),
    }


def with_spread(cell: Cell, values: Sequence[float], confidence: float, limits: Limits | None = None) -> Cell:
    """Return a cell whose interval over users is widened by the spread of the seeds.

    Each side becomes the root of two squares: the distance to the end of the users' interval, and half of Student's
    interval over the seeds. One seed has no spread.

    Args:
        cell: mean over the seeds with its interval over users.
        values: of the seeds.
        confidence: of both intervals.
        limits: of a user's value, to which the interval is cut.
    """
    seeds = _student(values, (1 - confidence) / 2)
    below, above = (math.hypot(cell[end] - cell["value"], seeds) for end in ("low", "high"))
    smallest, largest = limits or (-math.inf, math.inf)
    return cell | {"low": max(smallest, cell["value"] - below), "high": min(largest, cell["value"] + above)}


def p_value(cell: Cell, values: Sequence[float], confidence: float) -> float:
    """Return the level at which the interval of :func:`with_spread` would just reach 0.

    It is below 1 - confidence exactly if the interval shown leaves out 0. Other levels follow from the side of the
    users' interval that faces 0, taken as normal, and from Student's quantile over the seeds. Counting resamples beyond
    0 would give no p-value below 2 / (R + 1), which is too coarse for a correction over hundreds of cells.

    Args:
        cell: value, low and high over users alone.
        values: of the seeds.
        confidence: of the cell's interval.
    """
    distance = abs(cell["value"])
    if not distance:
        return 1.0
    side = abs(cell["value"] - cell["low" if cell["value"] > 0 else "high"]) / -float(ndtri((1 - confidence) / 2))

    def beyond(level: float) -> float:
        tail = math.exp(level) / 2
        return math.hypot(side * float(ndtri(tail)), _student(values, tail)) - distance

    smallest = math.log(_SMALLEST)
    return _SMALLEST if beyond(smallest) <= 0 else math.exp(brentq(beyond, smallest, 0.0))


def _student(values: Sequence[float], tail: float) -> float:
    """Return half of Student's interval for the mean of the seeds' values, 0 for one seed."""
    if len(values) < 2:
        return 0.0
    return -float(stdtrit(len(values) - 1, tail)) * stdev(values) / math.sqrt(len(values))


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Return which of several hypotheses Holm's step-down procedure rejects at a family-wise level."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = [False] * len(p_values)
    for rank, place in enumerate(order):
        if p_values[place] * (len(order) - rank) > level:
            break
        rejected[place] = True
    return rejected
