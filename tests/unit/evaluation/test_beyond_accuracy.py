"""What is recommended beyond accuracy: by hand, by brute force, and by RecTools where it is installed."""

import math
from typing import Any

import numpy as np
import pytest
from evaluations import CATALOGUE, TITLES, record

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.metrics import metrics_of
from ctrlrec.evaluation.metrics.base import Answer
from ctrlrec.evaluation.metrics.beyond_accuracy import gini_index, item_coverage
from ctrlrec.evaluation.scoring import paired_differences, per_user, score

# Five films, 32 training interactions: shares 1/2, 1/4, 1/8, 1/8 and none.
FILMS = Catalogue(
    ("a", "b", "c", "d", "e"),
    ("A", "B", "C", "D", "E"),
    (("Drama", "War"), ("Drama",), ("War",), ("Comedy",), ("Comedy", "Drama")),
    ("Drama", "Drama", "War", "Comedy", "Comedy"),
    (16, 8, 4, 4, 0),
)


def asked(titles: list[str], user: str = "u", history: tuple[str, ...] = ("A", "B"), count: int = 4) -> dict[str, Any]:
    known = [title if title in FILMS.title_index else None for title in titles]
    return {
        "setting": "sequential", "user": user, "history": list(history), "target": "E", "item_count": count,
        "category": None, "proportion": None, "titles": titles, "items": known,
    }  # fmt: skip


def of(titles: list[str], name: str, **changes: Any) -> float:
    (scores,) = per_user([asked(titles, **changes)], FILMS).values()
    return float(scores.values[name][0])


def test_popularity_and_novelty_by_hand():
    assert of(["B", "D", "B", "Nobody", "A"], "AveragePopularity@K") == 6.0, "repeat, invention and fifth are left out"
    assert of(["B", "D"], "Novelty@K") == (2 + 3) / 2
    assert of(["E"], "Novelty@K") == 5.0, "an item that nobody has counts as with one interaction of 32"
    assert math.isnan(of(["Nobody"], "Novelty@K")) and math.isnan(of([], "AveragePopularity@K"))


def test_diversity_by_hand():
    """A-B share 1 of 2 categories, A-D none of 3, B-D none of 2: the mean overlap is 1/6."""
    assert of(["A", "B", "D"], "ILD@K") == pytest.approx(5 / 6)
    assert of(["B", "B", "A"], "ILD@K") == 0.5
    assert math.isnan(of(["A", "A", "Nobody"], "ILD@K")), "one item has no pair"


def test_calibration_by_hand():
    """The history A, B is 3/4 Drama and 1/4 War."""
    assert of(["B", "B", "A"], "Calibration@K") == pytest.approx(0, abs=1e-12)
    assert of(["D"], "Calibration@K") == pytest.approx(1), "nothing in common is one bit"
    entropy = lambda *shares: -sum(share * math.log2(share) for share in shares)  # noqa: E731
    # B, C: 1/2 Drama, 1/2 War; the mean with the history is 5/8 and 3/8.
    expected = entropy(5 / 8, 3 / 8) - (entropy(3 / 4, 1 / 4) + entropy(1 / 2, 1 / 2)) / 2
    assert of(["B", "C"], "Calibration@K") == pytest.approx(expected)
    assert math.isnan(of([], "Calibration@K"))


def answers(lists: list[list[str]]) -> list[Answer]:
    rows = [asked(titles, f"u{user}") for user, titles in enumerate(lists)]
    return [Answer(row, row["titles"], row["items"], frozenset(), FILMS) for row in rows]


def brute_gini(lists: list[list[str]]) -> float:
    """Mean absolute difference of all pairs over twice the mean."""
    counts = [sum(title in items for items in lists) for title in FILMS.titles]
    pairs = sum(abs(one - other) for one in counts for other in counts)
    return pairs / (2 * len(counts) * sum(counts))


LISTS = [["A", "B", "C"], ["A", "B"], ["A", "A", "D"], ["B", "Nobody"], ["A", "C", "B", "D", "E"], []]


def test_coverage_and_gini_by_brute_force_with_and_without_each_user():
    first = [list(dict.fromkeys(title for title in titles[:4] if title in FILMS.title_index)) for titles in LISTS]
    for function, brute in (
        (item_coverage, lambda lists: len({title for titles in lists for title in titles}) / 5),
        (gini_index, brute_gini),
    ):
        value = brute(first)
        without = [brute(first[:user] + first[user + 1 :]) for user in range(len(first))]
        expected = [value + 5 * (np.mean(without) - one) for one in without]
        found = function(answers(LISTS))
        assert found == pytest.approx(expected) and found.mean() == pytest.approx(value)


def test_coverage_and_gini_of_one_user_of_equal_lists_and_of_nothing():
    assert item_coverage(answers([["A", "B"]])).tolist() == [0.4]
    assert gini_index(answers([["A", "B"]])) == pytest.approx([0.6])
    assert gini_index(answers([["A", "B"]] * 3)) == pytest.approx([0.6] * 3)
    assert gini_index(answers([list("ABCD") for _ in range(2)])) == pytest.approx([0.2] * 2)
    assert item_coverage(answers([["Nobody"], []])).tolist() == [0, 0]
    assert np.isnan(gini_index(answers([["Nobody"], []]))).all()


def test_intervals_of_corpus_values_hold_them_where_plain_resampling_would_not():
    rng = np.random.default_rng(0)
    many = Catalogue(
        tuple(f"i{n}" for n in range(200)), tuple(f"T{n}" for n in range(200)), (("C",),) * 200, ("C",) * 200,
        tuple(range(1, 201)),
    )  # fmt: skip
    chosen = [rng.choice(200, 4, replace=False) for _ in range(60)]
    rows = []
    for user, found in enumerate(chosen):
        titles = [f"T{n}" for n in found]
        rows.append(asked(titles, f"u{user:02}", history=("T0",)) | {"target": "T1", "items": titles})
    cells = score(rows, many, 500, 0.95, 0)["settings"]["sequential"]
    cell = cells["ItemCoverage@K"]
    assert cell["value"] == pytest.approx(len(np.unique(chosen)) / 200) and cell["n"] == 60
    assert cell["low"] < cell["value"] < cell["high"]
    plain = [len(np.unique([chosen[n] for n in rng.integers(60, size=60)])) / 200 for _ in range(200)]
    assert max(plain) < cell["value"], "which is why users are not simply resampled"
    # Another 60 users of the same kind give coverages that spread about as widely as the interval says.
    others = [len(np.unique([rng.choice(200, 4, replace=False) for _ in range(60)])) / 200 for _ in range(300)]
    assert 0.5 < (cell["high"] - cell["low"]) / (4 * np.std(others)) < 2.5
    gini = cells["GiniIndex@K"]
    assert gini["low"] < gini["value"] < gini["high"]


def test_rows_of_other_users_are_compared_over_those_of_both():
    """The second row answers the first two users alone; the coverage of eight more users is not a difference."""
    full = [record("sequential", user, [TITLES[3 + user % 5]]) for user in range(10)]
    part = [record("sequential", user, [TITLES[3 + user % 5]]) for user in range(2)]
    found = paired_differences(full, part, CATALOGUE)["sequential"]
    assert found.users == ("u0", "u1") and found.values["ItemCoverage@K"].tolist() == [0, 0]
    alone = per_user(full, CATALOGUE)["sequential"].values["ItemCoverage@K"].mean()
    assert alone == pytest.approx(0.5)


def test_the_family_stands_apart_from_the_metrics_of_the_paper():
    known = metrics_of("sequential")
    family = [name for name, metric in known.items() if metric.family]
    assert family == ["ItemCoverage@K", "GiniIndex@K", "AveragePopularity@K", "Novelty@K", "ILD@K", "Calibration@K"]
    assert all(known[name].columns == () and known[name].summary for name in family)


def test_rectools_gives_the_same_numbers():
    """RecTools has coverage, popularity, novelty (by users) and diversity; its diversity is given our distance."""
    pytest.importorskip("rectools")
    import pandas as pd
    from rectools import Columns
    from rectools.metrics import AvgRecPopularity, CatalogCoverage, IntraListDiversity, MeanInvUserFreq
    from rectools.metrics.distances import PairwiseDistanceCalculator

    class Jaccard(PairwiseDistanceCalculator):
        def _get_distances_for_item_pairs(self, first: Any, second: Any) -> Any:
            sets = [set(names) for names in FILMS.categories]
            return np.array([1 - len(sets[a] & sets[b]) / len(sets[a] | sets[b])
                             for a, b in zip(first, second, strict=True)])  # fmt: skip

        def _get_distances_for_item_matrices(self, *_: Any) -> Any:
            raise NotImplementedError

    lists = [["A", "B", "C"], ["A", "D"], ["B", "C", "D"], ["C", "A"]]
    seen = [(100 + user, item) for item, count in enumerate(FILMS.interactions) for user in range(count)]
    before = pd.DataFrame(seen, columns=[Columns.User, Columns.Item]).assign(weight=1.0, datetime=0)
    rows = [(user, FILMS.title_index[title], rank) for user, titles in enumerate(lists)
            for rank, title in enumerate(titles, 1)]  # fmt: skip
    given = pd.DataFrame(rows, columns=[Columns.User, Columns.Item, Columns.Rank])
    cells = score([asked(titles, f"u{user}") for user, titles in enumerate(lists)], FILMS, 10, 0.95, 0)
    ours = {name: cell["value"] for name, cell in cells["settings"]["sequential"].items()}
    catalog = list(range(5))
    assert ours["ItemCoverage@K"] == pytest.approx(CatalogCoverage(k=4, normalize=True).calc(given, catalog))
    assert ours["AveragePopularity@K"] == pytest.approx(AvgRecPopularity(k=4).calc(given, before))
    # Theirs is of the share of users who have an item, ours of the share of all interactions.
    users = before[Columns.User].nunique()
    theirs = MeanInvUserFreq(k=4).calc(given, before) + math.log2(FILMS.total_interactions / users)
    assert ours["Novelty@K"] == pytest.approx(theirs)
    assert ours["ILD@K"] == pytest.approx(IntraListDiversity(k=4, distance_calculator=Jaccard()).calc(given))
