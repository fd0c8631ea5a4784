"""Intervals and p-values against scipy's and against values worked out by hand."""

import math

import numpy as np
import pytest
import scipy.stats

from ctrlrec.evaluation import intervals
from ctrlrec.evaluation.intervals import (
    DIFFERENCE,
    SHARE,
    agreement,
    bootstrap_means,
    holm,
    mean_of_seeds,
    p_value,
    summarise,
    with_spread,
)


def test_intervals_agree_with_scipy():
    values = np.random.default_rng(1).random(200) ** 2
    expected = scipy.stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=0)
    low, high = np.quantile(bootstrap_means(values[:, None], 9999, 0)[:, 0], [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=2e-3)


def test_resampling_in_chunks_is_seeded(monkeypatch):
    values = np.arange(30.0).reshape(10, 3)
    once = bootstrap_means(values, 40, 5)
    assert np.array_equal(once, bootstrap_means(values, 40, 5))
    assert not np.array_equal(once, bootstrap_means(values, 40, 6))
    monkeypatch.setattr(intervals, "_CHUNK", 35)
    chunked = bootstrap_means(values, 40, 5)
    assert chunked.shape == (40, 3)
    assert np.allclose(chunked[:, 1] - chunked[:, 0], 1)  # metrics of one user stay together


def test_users_who_all_agree_leave_clopper_pearsons_interval():
    for count, users in ((0, 300), (300, 300), (0, 20), (1, 1)):
        expected = scipy.stats.binomtest(count, users).proportion_ci(0.95, method="exact")
        assert agreement(count / users, users, 0.95) == pytest.approx((expected.low, expected.high))
    columns = {"none": np.zeros(300), "all": np.ones(300), "some": np.arange(300) % 2.0, "free": np.full(300, 7.0)}
    columns["few"] = np.where(np.arange(300) < 20, 0.0, np.nan)
    cells = summarise(columns, 200, 0.95, 0, dict.fromkeys(("none", "all", "some", "few"), SHARE))
    assert (cells["none"]["low"], cells["none"]["high"]) == (0, pytest.approx(0.0122, abs=5e-5))
    assert (cells["all"]["low"], cells["all"]["high"]) == (pytest.approx(0.9878, abs=5e-5), 1)
    assert 0.4 < cells["some"]["low"] < 0.5 < cells["some"]["high"] < 0.6
    assert cells["few"] == {"value": 0, "low": 0, "high": pytest.approx(0.1684, abs=5e-5), "n": 20}
    assert cells["free"] == {"value": 7, "low": 7, "high": 7, "n": 300}  # nothing is known of its limits


def test_rows_that_never_differ_may_do_so_for_others():
    for value, low, high in ((0, -0.0122, 0.0122), (-1, -1, -0.9756), (0.1, 0.0866, 0.1110)):
        cell = summarise({"d": np.full(300, value, float)}, 50, 0.95, 0, {"d": DIFFERENCE})["d"]
        assert (cell["value"], cell["low"], cell["high"]) == pytest.approx((value, low, high), abs=5e-5)


def cell(value, low, high, n=300):
    return {"value": value, "low": low, "high": high, "n": n}


def test_the_seeds_spread_is_part_of_a_difference_over_seeds():
    """Effects of +9.3, -3.0 and +8.7 points: certain over users, and far from certain over seeds."""
    seeds = [9.3, -3.0, 8.7]
    student = scipy.stats.t.interval(0.95, 2, loc=5.0, scale=scipy.stats.sem(seeds))
    wide = with_spread(cell(5.0, 0.9, 9.0), seeds, 0.95)
    assert (wide["low"], wide["high"]) == pytest.approx((-12.7, 22.7), abs=0.05)
    assert wide["low"] < student[0] and student[1] < wide["high"]
    apart = [cell(9.3, 3.3, 15.3), cell(-3.0, -9.7, 4.0), cell(8.7, 2.0, 15.3)]
    pooled = with_spread(mean_of_seeds(apart), seeds, 0.95)  # users weigh more if only the seeds' intervals are known
    assert (pooled["low"], pooled["high"]) == pytest.approx((-13.4, 23.4), abs=0.1)
    assert with_spread(mean_of_seeds(apart[:1]), seeds[:1], 0.95) == pytest.approx(apart[0])
    assert with_spread(cell(0.0, -0.5, 0.5), [0.9, -0.9], 0.95, DIFFERENCE) == cell(0.0, -1, 1)


@pytest.mark.parametrize("seeds", [[1.0], [1.2, 0.8], [9.3, -3.0, 8.7]])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_a_p_value_says_what_its_interval_says(seeds, confidence):
    mean = float(np.mean(seeds))
    for half in np.geomspace(0.013, 9, 25):
        users = cell(mean, mean - half, mean + 2 * half)
        shown, p = with_spread(users, seeds, confidence), p_value(users, seeds, confidence)
        assert (p < 1 - confidence) == (shown["low"] > 0)
        mirrored = cell(-mean, -mean - 2 * half, -mean + half)
        assert p_value(mirrored, [-value for value in seeds], confidence) == pytest.approx(p)
    assert p_value(cell(0.0, -1, 1), seeds, confidence) == 1


def test_p_values_of_one_seed_are_normal_and_of_sure_users_students():
    assert p_value(cell(2.0, 2 - 1.959964, 9), [2.0], 0.95) == pytest.approx(scipy.stats.norm.sf(2) * 2, rel=1e-4)
    seeds = [9.3, 8.0, 8.7]
    test = scipy.stats.ttest_1samp(seeds, 0)
    mean = float(np.mean(seeds))
    assert p_value(cell(mean, mean, mean), seeds, 0.95) == pytest.approx(test.pvalue, rel=1e-4)
    assert 0 < p_value(cell(50.0, 49, 51), [50.0], 0.95) <= 1e-9


def test_holm_steps_down_and_stops_at_the_first_that_stays():
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([0.0124, 0.0126, 0.5, 0.9], 0.05) == [True, True, False, False]
    assert holm([0.0126, 0.0126, 0.0126, 0.0126], 0.05) == [False] * 4
    assert holm([], 0.05) == []
    assert math.isclose(sum(holm([0.05 / 7] * 7, 0.05)), 7)
