"""A tenth of a file may be unreadable, for all reasons together; what the method's own rules leave out has no bound."""

import json

import polars as pl
import pytest
from dataset_files import items, records, skipped, write

from ctrlrec.errors import CtrlRecError

BAD = {
    "interaction without a readable timestamp": "u,i0,2018/03/01",
    "interaction without user": ",i0,1",
    "interaction without item": "u,,1",
    "row with a wrong number of fields": "u,i0",
}


def logs(folder, bad, good):
    records(folder, [], items(3))
    write(folder / "interactions.csv", ["user,item,timestamp", *bad, *(f"u,i{n % 3},{n}" for n in range(good))])


@pytest.mark.parametrize("reason", BAD)
def test_every_reason_has_the_bound(load, tmp_path, reason):
    logs(tmp_path / "in", [BAD[reason]], 9)
    assert skipped(load("records")) == {reason: 1}
    logs(tmp_path / "in", [BAD[reason]], 8)
    with pytest.raises(
        CtrlRecError, match=rf"interactions\.csv:2: {reason}: expected .*, found '{BAD[reason]}'; 1 of the"
    ):
        load("records")


def test_all_reasons_share_one_bound(load, tmp_path):
    logs(tmp_path / "in", BAD.values(), 36)
    assert sum(skipped(load("records")).values()) == 4
    logs(tmp_path / "in", [*BAD.values(), BAD["interaction without user"]], 40)
    with pytest.raises(
        CtrlRecError, match=r"csv:3: interaction without user: .*2 of the first 45 .*5 cannot be read in all"
    ):
        load("records")


def test_dates_of_another_system_in_half_of_a_file_are_refused(load, tmp_path):
    rows = [f"2018-06-{n + 1:02}" if n % 2 else f"{n + 1:02}.06.2018" for n in range(20)]
    for ending in ("csv", "jsonl", "parquet"):
        records(tmp_path / "in", [("a", f"i{n % 3}", stamp) for n, stamp in enumerate(rows)], items(3))
        table = pl.read_csv(tmp_path / "in" / "interactions.csv")
        if ending != "csv":
            (tmp_path / "in" / "interactions.csv").unlink()
            getattr(table, {"jsonl": "write_ndjson"}.get(ending, "write_parquet"))(
                tmp_path / "in" / f"interactions.{ending}"
            )
        with pytest.raises(
            CtrlRecError, match=rf"interactions\.{ending}:\d: interaction without a read.* 10 of the first 20"
        ):
            load("records")
        (tmp_path / "in" / f"interactions.{ending}").unlink()


def test_json_lines_that_name_a_field_otherwise_are_refused_and_shown(load, tmp_path):
    write(tmp_path / "in" / "items.jsonl", items(3))
    rows = [{"user": "a", "item": f"i{n % 3}", "ts" if n % 2 else "timestamp": n} for n in range(20)]
    write(tmp_path / "in" / "interactions.jsonl", map(json.dumps, rows))
    with pytest.raises(CtrlRecError, match=r"jsonl:2: interaction without .*found '\{\"user\": \"a\", .*\"ts\": 1\}'"):
        load("records")


def test_what_the_method_leaves_out_has_no_bound(load, tmp_path):
    """Without title or category, listed again, of no metadata, happened again: most of both files."""
    rows = [{"item": f"x{n}", "title": "T"} for n in range(9)] + [
        {"item": f"y{n}", "categories": ["C"]} for n in range(9)
    ]
    interactions = [("a", f"{kind}{n}", n) for n in range(9) for kind in "ixyz"] * 2
    records(tmp_path / "in", interactions, [*items(9), *map(json.dumps, rows), *items(9)])
    prepared = load("records")
    assert skipped(prepared) == {"item without title": 9, "item without category": 9, "item listed again": 9}
    assert prepared.report["kept"]["interactions"] == 9
