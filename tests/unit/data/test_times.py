"""Timestamps in units that no file names: one order, whatever the unit."""

import random

import polars as pl
import pytest
from dataset_files import config, items, records, titles

from ctrlrec.data.prepare import read_raw
from ctrlrec.data.times import read_times, settle_units


def settled(stamps):
    return settle_units(read_times(pl.Series(stamps)))


@pytest.mark.parametrize("unit", [1e-3, 1, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("kind", [int, float, str, lambda value: f"{float(value)}"])
def test_times_since_a_start_keep_their_order_in_any_unit(unit, kind):
    """Sessions of up to a month: microseconds of them lie on both sides of what seconds since 1970 can be."""
    noise = random.Random(0)
    seconds = [noise.uniform(0, 30 * 86_400) for _ in range(500)] + [0.0, 1e-3]
    stamps, _ = settled([kind(int(moment * unit)) for moment in seconds])
    values = [int(moment * unit) for moment in seconds]
    order = sorted(range(len(values)), key=lambda index: values[index])
    assert sorted(range(len(values)), key=stamps.to_list().__getitem__) == order


def test_dates_before_1973_in_milliseconds_stay_in_order():
    days = [-400, -1, 0, 1, 500, 1000, 1200, 1300, 5000]
    stamps, _ = settled([day * 86_400_000 for day in days])
    assert stamps.to_list() == sorted(stamps.to_list())
    assert stamps.n_unique() == len(days)


def test_logs_of_two_systems_in_two_units_are_dates():
    seconds = [1_400_000_000 + n for n in range(20)]
    mixed = [str(moment * (1000 if n % 2 else 1)) for n, moment in enumerate(seconds)]
    stamps, card = settled([*mixed, "1", "0"])  # a stray number does not change the reading of all others
    assert stamps.to_list() == [*(moment * 1_000_000 for moment in seconds), 1_000_000, 0]
    assert card == {"first": "2014-05-13", "last": "2014-05-13"}


def test_dates_and_small_numbers_are_read_as_ever():
    stamps, _ = settled(["2018-06-17", "1529193600", "5", "100000000005"])
    assert stamps.to_list() == [1_529_193_600_000_000] * 2 + [5_000_000, 100_000_000_005_000]


def test_a_user_is_ordered_by_microseconds_across_blocks(load, tmp_path, monkeypatch):
    monkeypatch.setattr("ctrlrec.data.lines.BLOCK_BYTES", 40)
    stamps = [5_000_000_000, 200_000_000_000, 90_000_000_000, 7, 1_200_000_000_000]
    records(tmp_path / "in", [("a", f"i{n}", stamp) for n, stamp in enumerate(stamps)], items(5))
    assert titles(load("records")) == {"a": [f"Title {n}" for n in (3, 0, 2, 1, 4)]}


def test_the_card_tells_dates_from_mere_order(load, tmp_path):
    records(tmp_path / "in", [("a", f"i{n}", f"2018-06-1{n}") for n in range(3)], items(3))
    assert load("records").report["times"] == {"first": "2018-06-10", "last": "2018-06-12"}
    records(tmp_path / "in", [("a", f"i{n}", n) for n in range(3)], items(3))
    assert read_raw(config("records", tmp_path / "in"), tmp_path / "cache").report["times"]["first"] is None
