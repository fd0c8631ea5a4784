r"""Beyond accuracy: how much of the catalogue is recommended, how popular, how novel, how varied, how calibrated.

L is the set of the different catalogue items among the first k of an answer; repeats and inventions are left out. n(i)
is the number of training interactions of item i, and N(i) that of lists of the setting which hold i.

| metric | formula | source |
| --- | --- | --- |
| ``ItemCoverage@K`` | items with N(i) > 0, as a share of the catalogue | Ge et al., RecSys 2010 |
| ``GiniIndex@K`` | sum over items, ascending by N, of (2 rank - m - 1) N(i) / (m sum N), m items, rank from 1 | Fleder and Hosanagar, Management Science 2009 |
| ``AveragePopularity@K`` | mean of n(i) over L | Yin et al., VLDB 2012 |
| ``Novelty@K`` | mean of -log2(n(i) / sum n) over L; n(i) = 0 counts as 1 | Vargas and Castells, RecSys 2011 |
| ``ILD@K`` | 1 - mean over pairs of L of the Jaccard index of their categories | Ziegler et al., WWW 2005 |
| ``Calibration@K`` | Jensen-Shannon divergence, in bits, of p(c | history shown) and q(c | L); every item spreads 1 evenly over its categories | Steck, RecSys 2018, whose KL divergence has no bound |

Coverage and Gini belong to all lists together. Resampled users bring some lists twice, and a list that comes twice covers
nothing new: the coverage of resamples lies far below that of the sample, and its interval would not hold the value. So
each user has the influence of the jackknife (Efron and Tibshirani, 1993, chapters 10 and 11):

    value + (n - 1) * (mean over users of the value without one user - value without this user)

Their mean is the value of all n lists. They are resampled, paired and averaged over seeds like the values of any other
metric. Both depend on n: compare rows over the same users.
"""  # noqa: E501

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.distance import jensenshannon

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.metrics.base import Answer, Metric
from ctrlrec.evaluation.settings import SETTINGS

FAMILY = "beyond accuracy"


def recommended(answer: Answer) -> list[int]:
    """Return the different catalogue items among the first k, in order."""
    index = answer.catalogue.title_index
    return [index[title] for title in dict.fromkeys(answer.scored) if title is not None]


def average_popularity(answer: Answer) -> float | None:
    """Return the mean number of training interactions of the items; None without one."""
    counts = [answer.catalogue.interactions[item] for item in recommended(answer)]
    return sum(counts) / len(counts) if counts else None


def novelty(answer: Answer) -> float | None:
    """Return the mean of -log2 of the items' shares of all training interactions; None without one."""
    total, counts = answer.catalogue.total_interactions, answer.catalogue.interactions
    bits = [math.log2(total / max(1, counts[item])) for item in recommended(answer) if total]
    return sum(bits) / len(bits) if bits else None


def intra_list_diversity(answer: Answer) -> float | None:
    """Return 1 less the mean Jaccard index of the categories of two items; None for fewer than two items."""
    sets = [answer.catalogue.category_bits[item] for item in recommended(answer)]
    overlaps = [(one & other).bit_count() / (one | other).bit_count() for one, other in itertools.combinations(sets, 2)]
    return 1 - sum(overlaps) / len(overlaps) if overlaps else None


def calibration(answer: Answer) -> float | None:
    """Return the divergence of the list's categories from those of the history shown; None for an empty list."""
    catalogue = answer.catalogue
    shares = [_shares(items, catalogue) for items in (
        [catalogue.title_index[title] for title in answer.question["history"]], recommended(answer))]  # fmt: skip
    if not all(shares):
        return None
    names = sorted(shares[0].keys() | shares[1].keys())
    distance = float(jensenshannon(*([share.get(name, 0.0) for name in names] for share in shares), base=2))
    return 0.0 if math.isnan(distance) else distance**2  # rounding may take the root of a negative number


def _shares(items: Sequence[int], catalogue: Catalogue) -> dict[str, float]:
    """Return the share of each category in a list of items, each of which spreads 1 over its categories."""
    shares: dict[str, float] = {}
    for item in items:
        names = set(catalogue.categories[item])
        for name in names:
            shares[name] = shares.get(name, 0.0) + 1 / len(names) / len(items)
    return shares


def item_coverage(answers: Sequence[Answer]) -> np.ndarray:
    """Return each user's influence on the share of the catalogue that some list holds; float (n_users,)."""
    lists, counts = _counted(answers)
    size = len(counts)
    alone = np.array([sum(counts[item] == 1 for item in items) for items in lists])
    return _influences(float((counts > 0).sum() / size), (np.sum(counts > 0) - alone) / size)


def gini_index(answers: Sequence[Answer]) -> np.ndarray:
    """Return each user's influence on the inequality of how often items are recommended; NaN if none is."""
    lists, counts = _counted(answers)
    size, ordered = len(counts), np.sort(counts)
    total, weighted = int(ordered.sum()), float(2 * np.arange(1, size + 1) @ ordered)

    def gini(weighted: float, total: int) -> float:
        return (weighted - (size + 1) * total) / (size * total) if total else math.nan

    value = gini(weighted, total)
    without = []
    for items in lists:
        # One list less: of the items that are as common, the first ones in the order lose one and stay in order.
        lost = 0
        for count, several in Counter(int(counts[item]) for item in items).items():
            first = int(np.searchsorted(ordered, count)) + 1
            lost += sum(range(first, first + several))
        other = gini(weighted - 2 * lost, total - len(items))
        without.append(value if math.isnan(other) else other)
    return _influences(value, np.array(without))


def _counted(answers: Sequence[Answer]) -> tuple[list[list[int]], np.ndarray]:
    """Return the items of each list, and how many lists hold each item of the catalogue."""
    lists = [recommended(answer) for answer in answers]
    held = np.array([item for items in lists for item in items], dtype=int)
    return lists, np.bincount(held, minlength=len(answers[0].catalogue))


def _influences(value: float, without: np.ndarray) -> np.ndarray:
    """Return the jackknife's influences around a value.

    Args:
        value: of all users.
        without: value without each user, (n_users,).
    """
    return value + (len(without) - 1) * (without.mean() - without)


def _metric(
    name: str,
    function: Callable[[Answer], float | None] | None,
    unit: str,
    lower_is_better: bool = False,
    corpus: Callable[[Sequence[Answer]], np.ndarray] | None = None,
) -> Metric:
    return Metric(name, function, lower_is_better, unit, tuple(SETTINGS), columns=(), family=FAMILY, corpus=corpus)


METRICS = (
    _metric("ItemCoverage@K", None, "%", corpus=item_coverage),
    _metric("GiniIndex@K", None, "", lower_is_better=True, corpus=gini_index),
    _metric("AveragePopularity@K", average_popularity, "interactions", lower_is_better=True),
    _metric("Novelty@K", novelty, "bits"),
    _metric("ILD@K", intra_list_diversity, ""),
    _metric("Calibration@K", calibration, "", lower_is_better=True),
)
