"""Words that programs write for no value are neither titles nor categories."""

import json

import polars as pl
import pytest
from dataset_files import items, records, skipped

from ctrlrec.data.missing import is_missing, missing

MARKS = ["nan", "NaN", "None", "none", "NULL", "null", "\\N", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaT", "(null)", "",
         " ", "-", "--", "\u2013", "\u2014", "'nan'", '"None"', "\ufeffnan", "''"]  # fmt: skip
TITLES = ["Nan's House", "Null Point", "N/A: a film", "- 1 -", "NA NA", "Nothing", "0", "?", "$", "None of Us", "-1"]


@pytest.mark.parametrize("text", MARKS)
def test_marks_are_missing(text):
    assert is_missing(text)


@pytest.mark.parametrize("text", TITLES)
def test_titles_that_hold_a_mark_are_not(text):
    assert not is_missing(text)


def test_a_column_is_judged_as_each_of_its_texts():
    texts = [*MARKS, *TITLES, None]
    frame = pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)})
    judged = frame.select(missing(pl.col("text"))).to_series().to_list()
    assert judged == [text is None or is_missing(text) for text in texts]


@pytest.mark.parametrize("mark", ["nan", "None", "NULL", "\\N", "NA", "N/A", "-", ""])
def test_items_called_so_are_left_out_whatever_their_number(load, tmp_path, mark):
    metadata = [
        *items(3),
        *(json.dumps({"item": f"x{n}", "title": mark, "categories": ["C"]}) for n in range(9)),
        *(json.dumps({"item": f"y{n}", "title": f"Y{n}", "categories": [mark]}) for n in range(9)),
        json.dumps({"item": "z", "title": "Z", "categories": ["Drama", mark]}),
    ]
    rows = (
        [("a", f"i{n}", n) for n in range(3)] + [("a", f"{k}{n}", n) for n in range(9) for k in "xy"] + [("a", "z", 99)]
    )
    records(tmp_path / "in", rows, metadata)
    prepared = load("records")
    assert skipped(prepared) == {"item without title": 9, "item without category": 9}
    assert prepared.catalogue.titles == ("Title 0", "Title 1", "Title 2", "Z")
    assert prepared.catalogue.category_names == ("Drama",)


def test_one_title_for_many_items_is_a_warning(load, tmp_path, caplog):
    metadata = [
        *items(20),
        *(json.dumps({"item": f"x{n}", "title": "No title", "categories": ["C"]}) for n in range(6)),
    ]
    rows = [("a", f"i{n}", n) for n in range(20)] + [(user, f"x{n}", n) for n in range(6) for user in "abcde"]
    records(tmp_path / "in", rows, metadata)
    prepared = load("records")
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "6 of 26 items, with 5 of 25 interactions, have the title 'No title'" in warning
    assert prepared.report["shared_title"] == {"title": "No title", "items": 6, "interactions": 5}


def test_people_without_a_name_and_items_without_metadata_are_warnings(load, tmp_path, caplog):
    rows = [(user, f"i{n}", n) for user in ("a", "nan") for n in range(3)]
    records(tmp_path / "in", [*rows, ("a", "unknown", 9)], items(3))
    load("records")
    first, second = (record.getMessage() for record in caplog.records)
    assert "3 of 7 interactions are of user 'nan'" in first
    assert "1 of 7 interactions with an item that metadata lacks" in second
