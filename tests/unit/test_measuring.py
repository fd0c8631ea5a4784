"""Ratios, history and the page of the benchmark suite."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments" / "performance"))

from bench import kept_parts
from measuring import Metric, compare, history_line, regressions


def test_a_ratio_above_one_means_ahead_whichever_way_is_better() -> None:
    ours, peer = [{"rate": 30, "seconds": 2}, {"rate": 40, "seconds": 1}], [{"rate": 10, "seconds": 8}] * 2
    more = compare(Metric("rate", "1/s"), ours, peer)
    assert more["ratio"] == {"median": 3.5, "min": 3, "max": 4}
    less = compare(Metric("seconds", "s", more=False), ours, peer)
    assert less["ratio"] == {"median": 6, "min": 4, "max": 8}
    assert less["peer"]["median"] == 8


def test_ratios_are_taken_within_pairs() -> None:
    """A machine that slows down halves both sides of a pair and leaves its ratio alone."""
    row = compare(Metric("rate", "1/s"), [{"rate": 20}, {"rate": 10}, {"rate": 2}],
                  [{"rate": 10}, {"rate": 5}, {"rate": 1}])  # fmt: skip
    assert row["ratio"] == {"median": 2, "min": 2, "max": 2}


def test_the_history_keeps_ratios_and_numbers_without_a_peer() -> None:
    alone = compare(Metric("reads", "GB/s"), [{"reads": 9.0}], [])
    against = compare(Metric("rate", "1/s"), [{"rate": 30}], [{"rate": 10}])
    results = {"date": "2030-01-01", "git_commit": "abc", "quick": False, "hardware": {"cores": 2},
               "parts": {"limits": {"metrics": [alone]}, "sl": {"metrics": [against]}}}  # fmt: skip
    assert history_line(results)["numbers"] == {"limits/reads": 9.0, "sl/rate": 3.0}


def line(quick: bool = False, **numbers: float) -> dict:
    return {"quick": quick, "cores": 2, "numbers": numbers}


@pytest.mark.parametrize(("now", "lost"), [(1.0, True), (1.9, False), (3.0, False)])
def test_a_regression_shows_against_the_usual_of_earlier_lines(now: float, lost: bool) -> None:
    history = [line(sl=2.0), line(sl=2.1), line(True, sl=9.0), line(sl=now)]
    assert ("sl" in regressions(history, {})) == lost


def test_of_seconds_less_is_better_and_a_first_measurement_has_nothing_to_fall_behind() -> None:
    assert "start" in regressions([line(start=2.0), line(start=4.0)], {"start": False})
    assert not regressions([line(start=2.0), line(start=1.0)], {"start": False})
    assert not regressions([line(sl=2.0)], {})


def test_parts_measured_earlier_stay_beside_new_ones_only_where_they_can_be_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, now = tmp_path / "results.json", {"quick": False, "hardware": {"cores": 2}, "packages": {"torch": "2"}}
    assert kept_parts(path, now | {"parts": {}}) == {}
    path.write_text(json.dumps(now | {"parts": {"sl": {"pairs": 3}, "rl": {"pairs": 1}}}))
    assert set(kept_parts(path, now | {"parts": {"rl": {}}})) == {"sl", "rl"}
    assert not capsys.readouterr().out
    assert kept_parts(path, now | {"packages": {"torch": "3"}, "parts": {"rl": {}}}) == {}
    assert "sl: left out, for packages changed" in capsys.readouterr().out
