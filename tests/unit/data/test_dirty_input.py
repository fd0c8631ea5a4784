"""What real files are like: everything that can be skipped is skipped and counted, the rest is one clear error."""

import gzip
import json
import random
import zipfile

import polars as pl
import pytest
from dataset_files import config, items, records, skipped, titles, write

from ctrlrec.data import lines
from ctrlrec.data.prepare import read_raw
from ctrlrec.data.titles import cut_titles
from ctrlrec.errors import CtrlRecError
from ctrlrec.teacher.models.sasrec import SASRec, SASRecOptions
from ctrlrec.teacher.ranker import Ranker

ROWS = [("a", f"i{n}", n) for n in range(3)]


def metadata(*extra):
    """Three items that users of ROWS met, others in line 4, and items that nobody met: enough for a bad row or two."""
    return [*items(3), *(json.dumps(row) for row in extra), *items(30)[3:]]


def many(*extra):
    """ROWS, other interactions in line 5, and interactions of a user who met no item that the metadata describes."""
    return [*ROWS, *extra, *(("z", f"z{n}", n) for n in range(30))]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"item": "x", "title": '<span id="productTitle" class="a-size', "categories": ["C"]}, "scrap of a page"),
        ({"item": "x", "title": "var aPageStart = (new Date()).getTime();", "categories": ["C"]}, "scrap of a page"),
        ({"item": "x", "title": '<IMG src="a.png">', "categories": ["C"]}, "scrap of a page"),
        ({"item": "x", "title": "T<a href='b'>", "categories": ["C"]}, "scrap of a page"),
        ({"item": "x", "title": "P.when('A').execute(function(A) { A.on", "categories": ["C"]}, "scrap of a page"),
        ({"item": "x", "title": " \t\n ", "categories": ["C"]}, "item without title"),
        ({"item": "x", "title": "\x1c\x1f", "categories": ["C"]}, "item without title"),
        ({"item": "x", "title": "\ufeff\u200b \u200d", "categories": ["C"]}, "item without title"),
        ({"item": "x", "title": None, "categories": ["C"]}, "item without title"),
        ({"item": "x", "categories": ["C"]}, "item without title"),
        ({"item": "x", "title": "T", "categories": []}, "item without category"),
        ({"item": "x", "title": "T", "categories": None}, "item without category"),
        ({"item": "x", "title": "T", "categories": ["", " ", None]}, "item without category"),
        ({"item": "x", "title": "T", "categories": ["</span></span>"]}, "item without category"),
        ({"item": "x", "title": "T"}, "item without category"),
        ({"item": "x", "title": "T", "categories": [["A", "B"], ["C"]]}, "item without category"),
        ({"item": "x", "title": "T", "categories": [{"name": "A"}]}, "item without category"),
        ({"item": "x", "title": "T", "categories": float("nan")}, "item without category"),
        ({"item": "x", "title": float("nan"), "categories": ["C"]}, "item without title"),
        ({"item": "x", "title": ["T"], "categories": ["C"]}, "item without title"),
        ({"item": "x", "title": {"en": "T"}, "categories": ["C"]}, "item without title"),
        ({"item": "x", "title": True, "categories": ["C"]}, "item without title"),
        ({"item": "", "title": "T", "categories": ["C"]}, "item without id"),
        ({"title": "T", "categories": ["C"]}, "item without id"),
        ({"item": "i0", "title": "Another", "categories": ["C"]}, "item listed again"),
    ],
)
def test_unusable_items_are_left_out_and_counted_with_their_line(load, tmp_path, row, reason):
    records(tmp_path / "in", ROWS, metadata(row))
    prepared = load("records")
    assert prepared.catalogue.titles == ("Title 0", "Title 1", "Title 2")
    ((found, facts),) = prepared.report["skipped"].items()
    assert reason in found
    assert facts == {"rows": 1, "first": ["items.jsonl:4"]}


def test_of_metadata_given_twice_the_first_complete_row_counts(load, tmp_path):
    twice = [json.dumps({"item": "i0", "title": "", "categories": ["C"]}), *items(3), *items(1, "Other")]
    records(tmp_path / "in", ROWS, twice)
    prepared = load("records")
    assert prepared.catalogue.categories[0] == ("Drama",)
    assert skipped(prepared) == {"item without title": 1, "item listed again": 1}


def test_items_without_metadata_and_metadata_without_interactions(load, tmp_path):
    records(tmp_path / "in", [*ROWS, ("a", "unknown", 9)], items(5))
    prepared = load("records")
    assert len(prepared.catalogue) == 3
    assert prepared.report["dropped"] == {
        "users without any item that metadata describes": 0,
        "interactions with an item that metadata lacks or leaves incomplete": 1,
        "items that nobody interacted with": 2,
        "repeated interactions": 0,
    }


def test_users_of_whom_no_item_is_known_are_counted(load, tmp_path):
    records(tmp_path / "in", [*ROWS, ("b", "unknown", 9), ("b", "x", 10)], items(3))
    prepared = load("records")
    assert prepared.sequences.users == ("a",)
    assert prepared.report["dropped"]["users without any item that metadata describes"] == 1


def test_two_files_that_do_not_belong_together_are_told_by_their_ids(load, tmp_path):
    records(tmp_path / "in", [("a", f" i{n}", n) for n in range(3)], items(3))
    with pytest.raises(CtrlRecError, match=r"none of 3 interactions .* items as ' i0', the metadata as 'i0'"):
        load("records")


@pytest.mark.parametrize(
    "stamps",
    [
        ("1529193600", "1528934400", "1529193601"),
        ("1529193600000", "1528934400000", "1529193600001"),
        ("1529193600.5", "1528934400.25", "1529193601.0"),
        ("2018-06-17", "2018-06-14", "2018-06-18"),
        ("2018-06-17 00:00:00", "2018-06-14 12:30:00", "2018-06-17 00:00:01"),
        ("2018-06-17T00:00:00Z", "2018-06-17T01:30:00+02:00", "2018-06-17T00:00:00.5Z"),
        ("2018-06-17 02:00:00+02:00", "2018-06-16 22:30:00-0100", "2018-06-17 00:00:00.5+00:00"),
        ("2018-06-17 09:30", "2018-06-17 09:29", "2018-06-17T09:31Z"),
        (" 2018-06-17", " 15e8", "1529193600001 "),
        ("06 17, 2018", "06 2, 2018", "06 18, 2018"),
        ("1.5e9", "1.4e9", "1.6e9"),
        ("-1", "-100", "0"),
    ],
)
def test_timestamps_may_be_seconds_milliseconds_or_dates(load, tmp_path, stamps):
    rows = [json.dumps({"user": "a", "item": f"i{n}", "timestamp": stamp}) for n, stamp in enumerate(stamps)]
    write(tmp_path / "in" / "interactions.jsonl", rows)
    write(tmp_path / "in" / "items.jsonl", items(3))
    assert titles(load("records")) == {"a": ["Title 1", "Title 0", "Title 2"]}


def test_units_may_be_mixed_and_all_mean_the_same_moment(tmp_path):
    stamps = ["1529193600", "1529193600000", "1529193600000000", "1529193600000000000", "2018-06-17", "1529193600.0"]
    stamps += ["1.5291936e12", "1.5291936e15", "1529193600000000.0", "1.5291936e18"]  # as pandas writes floats
    records(tmp_path, [("a", f"i{n}", stamp) for n, stamp in enumerate(stamps)], items(10))
    raw = read_raw(config("records", tmp_path), tmp_path / "cache")
    assert raw.interactions["timestamp"].unique().to_list() == [1_529_193_600_000_000]


@pytest.mark.parametrize("kind", [pl.Date, pl.Datetime("ms"), pl.Datetime("ns", "UTC")])
def test_timestamps_of_parquet_may_have_a_type_of_their_own(tmp_path, kind):
    stamps = [*["2018-06-17"] * 10, "1969-12-31", None]
    rows = {"user": ["a"] * 12, "item": range(12), "timestamp": stamps}
    frame = pl.DataFrame(rows).with_columns(pl.col("timestamp").str.to_date().cast(pl.Datetime("us")).cast(kind))
    frame.write_parquet(tmp_path / "interactions.parquet")
    write(tmp_path / "items.jsonl", items(3))
    raw = read_raw(config("records", tmp_path), tmp_path / "cache")
    assert raw.interactions.rows()[9:] == [("a", "9", 1_529_193_600_000_000), ("a", "10", -86_400_000_000)]


def test_unsorted_rows_are_ordered_and_equal_timestamps_keep_file_order(load, tmp_path):
    records(tmp_path / "in", [("a", "i2", 5), ("a", "i0", 5), ("a", "i1", 4)], items(3))
    assert titles(load("records")) == {"a": ["Title 1", "Title 2", "Title 0"]}


@pytest.mark.parametrize("stamp", ["", "yesterday", "nan", "inf", "1e40", "2018-13-45", "12/06/2018", str(-(2**63))])
def test_interactions_without_a_readable_time_are_counted(load, tmp_path, stamp):
    records(tmp_path / "in", many(("a", "i0", stamp)), items(3))
    prepared = load("records")
    assert prepared.report["skipped"] == {
        "interaction without a readable timestamp": {"rows": 1, "first": ["interactions.csv:5"]}
    }


def test_interactions_without_user_or_item_are_counted(load, tmp_path):
    records(tmp_path / "in", [("", "i0", 1), *many(("b", "", 1))], items(3))
    assert skipped(load("records")) == {"interaction without user": 1, "interaction without item": 1}


STRANGE = {
    'He said "no", twice': 'He said "no", twice',
    "O'Brien's": "O'Brien's",
    "12. Angry Men": "12. Angry Men",
    "3": "3",
    "1917 ": "1917",
    "two\nlines": "two lines",
    "two\r\nlines\tand tab": "two lines and tab",
    "line\u2028separator": "line separator",
    "\u05e9\u05dc\u05d5\u05dd (1999)": "\u05e9\u05dc\u05d5\u05dd (1999)",
    "e\u0301clair \U0001f600": "\u00e9clair \U0001f600",
    "\u202e\u0627\u0644\u0641\u064a\u0644\u202c 2": "\u202e\u0627\u0644\u0641\u064a\u0644\u202c 2",
    "[REC] {2}": "[REC] {2}",
    "Amelie <3 & Co; a < b > c": "Amelie <3 & Co; a < b > c",
    "Tom &amp; Jerry": "Tom &amp; Jerry",
    "The <i>Real</i> Story": "The <i>Real</i> Story",
    "Liver function (DVD)": "Liver function (DVD)",
    "unit\x1fseparator": "unit separator",
    "back\\slash \\u2665 \\n": "back\\slash \\u2665 \\n",
}


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "literal"])
def test_strange_titles_keep_every_character_but_line_breaks_and_tabs(load, tmp_path, form):
    folder = tmp_path / "in"
    if form == "literal":
        rows = [f"{{u'id': u'i{n}', u'title': u{title!a}, u'tags': [u'C']}}" for n, title in enumerate(STRANGE)]
        write(folder / "steam_games.json", rows)
        reviews = [
            f"{{'username': 'a', 'product_id': 'i{n}', 'date': '2017-12-{n + 1:02}'}}" for n in range(len(STRANGE))
        ]
        write(folder / "steam_reviews.json", reviews)
    elif form == "parquet":
        records(folder, [("a", f"i{n}", n) for n in range(len(STRANGE))], [])
        (folder / "items.jsonl").unlink()
        columns = {"item": [f"i{n}" for n in range(len(STRANGE))], "title": list(STRANGE)}
        pl.DataFrame(columns | {"categories": [["C"]] * len(STRANGE)}).write_parquet(folder / "items.parquet")
    elif form == "csv":
        records(folder, [("a", f"i{n}", n) for n in range(len(STRANGE))], [])
        (folder / "items.jsonl").unlink()
        quoted = ['i{},"{}",C'.format(n, title.replace('"', '""')) for n, title in enumerate(STRANGE)]
        write(folder / "items.csv", ["item,title,categories", *quoted])
    else:
        rows = [json.dumps({"item": f"i{n}", "title": title, "categories": ["C"]}) for n, title in enumerate(STRANGE)]
        records(folder, [("a", f"i{n}", n) for n in range(len(STRANGE))], rows)
    prepared = load("steam" if form == "literal" else "records")
    assert list(prepared.catalogue.titles) == list(STRANGE.values())


def test_half_a_surrogate_pair_is_marked_and_a_whole_one_joined(load, tmp_path):
    rows = [
        f'{{"item": "i{n}", "title": "T{n} {tail}", "categories": ["C"]}}'
        for n, tail in enumerate(("\\ud83d", "\\ud83d\\ude00", ""))
    ]
    records(tmp_path / "in", ROWS, rows)
    assert load("records").catalogue.titles == ("T0 \ufffd", "T1 \U0001f600", "T2")


def test_titles_that_collide_after_cutting_to_64_tokens_are_merged(load, tmp_path, tokenizer):
    records(tmp_path / "in", [*ROWS, ("a", "x", 9), ("a", "y", 10)],
            metadata({"item": "x", "title": "The same " * 40 + "one", "categories": ["C"]},
                     {"item": "y", "title": "The same " * 40 + "two", "categories": ["D"]}))  # fmt: skip
    prepared = load("records", cut=lambda names, _: cut_titles(tokenizer, names, 64))
    assert prepared.catalogue.items == ("i0", "i1", "i2", "x")
    assert prepared.catalogue.categories[-1] == ("C", "D")
    assert len(tokenizer(prepared.catalogue.titles[-1], add_special_tokens=False)["input_ids"]) == 64
    assert prepared.report["titles"] == {"cut": 2, "merged": 1, "with_entities": 0}


def test_a_byte_order_mark_and_windows_line_ends_are_no_content(load, tmp_path):
    data = "\ufeff" + "\r\n".join(["user,item,timestamp", *(f"a,i{n},{n}" for n in range(3)), ""])
    write(tmp_path / "in" / "interactions.csv", data.encode())
    write(tmp_path / "in" / "items.jsonl", ("\r\n".join(items(3)) + "\r\n\r\n").encode())
    prepared = load("records")
    assert titles(prepared) == {"a": ["Title 0", "Title 1", "Title 2"]}
    assert skipped(prepared) == {}


def test_columns_may_stand_in_any_order_and_others_are_ignored(load, tmp_path):
    write(tmp_path / "in" / "interactions.csv", ["rating,timestamp,item,user", *(f"5,{n},i{n},a" for n in range(3))])
    write(tmp_path / "in" / "items.jsonl", items(3))
    assert len(titles(load("records"))["a"]) == 3


def test_a_quoted_line_break_does_not_split_a_row_even_across_blocks(load, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 16)
    rows = [
        "item,title,categories",
        *(f'i{n},"Title\n\n{n}, ""so""",A|B' for n in range(3)),
        "broken,row",
        "",
        'x,"",A',
    ]
    records(tmp_path / "in", ROWS, [])
    (tmp_path / "in" / "items.jsonl").unlink()
    write(tmp_path / "in" / "items.csv", rows)
    with pytest.raises(CtrlRecError, match=r"items\.csv:11: row with a wrong number of fields.*1 of the first 5 rows"):
        load("records")
    write(tmp_path / "in" / "items.csv", [row for row in rows if row != "broken,row"])
    prepared = load("records")
    assert prepared.catalogue.titles[2] == 'Title  2, "so"'
    assert prepared.catalogue.categories[0] == ("A", "B")
    assert prepared.report["skipped"]["item without title"]["first"] == ["items.csv:12"]


def test_blocks_of_any_size_give_the_same_rows_and_lines(tmp_path, monkeypatch):
    rows = [(f"u{n % 7}", f"i{n % 5}", "bad" if n in (40, 77) else n) for n in range(120)]
    records(tmp_path, rows, items(5))
    whole = read_raw(config("records", tmp_path), tmp_path / "cache")
    assert whole.report["skipped"]["interaction without a readable timestamp"]["first"] == [
        "interactions.csv:42", "interactions.csv:79",
    ]  # fmt: skip
    for size in (1, 7, 100):
        monkeypatch.setattr(lines, "BLOCK_BYTES", size)
        cut = read_raw(config("records", tmp_path), tmp_path / f"cache{size}")
        assert cut.interactions.equals(whole.interactions)
        assert cut.items.equals(whole.items)
        assert cut.report == whole.report


def test_a_few_lines_that_are_not_json_are_skipped_and_counted(load, tmp_path):
    rows = items(40)
    rows[20] = rows[20][:-5]
    rows[30] = "[1, 2]"
    records(tmp_path / "in", ROWS, [*rows, "", "null"])
    found = load("records").report["skipped"]["line that is not a JSON object"]
    assert found == {"rows": 3, "first": ["items.jsonl:21", "items.jsonl:31", "items.jsonl:42"]}


def test_a_damaged_line_changes_no_text_of_its_neighbours(tmp_path):
    rows = [
        '{"user": 7, "item": 1.0, "timestamp": 1529193600}',
        '{"user": 7.0, "item": 2e3, "timestamp": 1529193600.5}',
        '{"user": "\\u00e9\\ud83d\\ude00", "item": 123456789012345678, "timestamp": "2018-06-17"}',
        '{"user": "[REC]", "item": "x", "timestamp": 0, "user_name": "y"}',
    ] * 5
    write(tmp_path / "items.jsonl", items(3))
    write(tmp_path / "interactions.jsonl", rows)
    whole = read_raw(config("records", tmp_path), tmp_path / "cache").interactions
    assert whole["item"].head(4).to_list() == ["1", "2000", "123456789012345678", "x"]
    assert whole["user"].head(4).to_list() == ["7", "7", "\u00e9\U0001f600", "[REC]"]
    for damage in ("{", '{"user": NaN}', '{"user": {"id": 7}}', '{"user": true}'):
        write(tmp_path / "interactions.jsonl", [*rows, damage])
        assert read_raw(config("records", tmp_path), tmp_path / "cache").interactions.equals(whole)


def test_a_file_that_is_mostly_something_else_is_refused_at_its_first_bad_line(load, tmp_path):
    records(tmp_path / "in", ROWS, [*items(1), "<html>", "<body>"])
    with pytest.raises(CtrlRecError, match=r"items\.jsonl:2: line that is not a JSON object.*2 of the first 3 rows"):
        load("records")
    write(tmp_path / "in" / "interactions.csv", ["user,item,timestamp", "a,i0,1", "a;i1;1", "a,i2"])
    write(tmp_path / "in" / "items.jsonl", items(3))
    with pytest.raises(
        CtrlRecError, match=r"interactions\.csv:3: row with a wrong number of fields: expected 3 fields"
    ):
        load("records")


@pytest.mark.parametrize("name", ["interactions.csv", "items.jsonl", "items.csv"])
@pytest.mark.parametrize("data", [b"", b"\n \n", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_named(load, tmp_path, name, data):
    records(tmp_path / "in", ROWS, items(3))
    if name == "items.csv":
        (tmp_path / "in" / "items.jsonl").unlink()
    write(tmp_path / "in" / name, data)
    with pytest.raises(CtrlRecError, match=rf"{name}(: the file is empty|:1: no column .* found $)"):
        load("records")


def test_a_header_alone_and_missing_columns_are_named(load, tmp_path):
    records(tmp_path / "in", [], items(3))
    with pytest.raises(CtrlRecError, match=r"interactions\.csv: a header and no rows"):
        load("records")
    write(tmp_path / "in" / "interactions.csv", b"user,item\rtimestamp\n")
    with pytest.raises(CtrlRecError, match=r"interactions\.csv:1: no header with user, item, timestamp"):
        load("records")
    write(tmp_path / "in" / "interactions.csv", ["user,movie,time", "a,b,1"])
    with pytest.raises(
        CtrlRecError, match=r"interactions\.csv:1: no column item, timestamp; .* found user, movie, time"
    ):
        load("records")


def test_no_usable_item_at_all_says_why(load, tmp_path):
    records(tmp_path / "in", ROWS, [json.dumps({"item": "i0", "title": "T"})])
    with pytest.raises(
        CtrlRecError, match=r"no item has both a title and a category .item without category: 1, first items.jsonl:1"
    ):
        load("records")
    records(tmp_path / "in", [("a", "i0", "12/06/2018"), ("a", "i1", "")], items(3))
    with pytest.raises(
        CtrlRecError,
        match=r"csv:2: interaction without a readable timestamp: .* found 'a,i0,12/06/2018'; 2 of the first 2",
    ):
        load("records")


@pytest.mark.parametrize("name", ["interactions.csv", "items.jsonl"])
def test_a_truncated_gzip_names_the_file_and_how_far_it_got(load, tmp_path, name):
    noise = random.Random(0)
    rows = [("a", f"i{n % 3}", noise.random() * 1e9) for n in range(20_000)]
    records(tmp_path / "in", rows, [item.replace("Title", noise.randbytes(9).hex()) for item in items(5_000)])
    file = tmp_path / "in" / name
    packed = gzip.compress(file.read_bytes())
    file.unlink()
    file = file.with_name(f"{name}.gz")
    file.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(CtrlRecError, match=rf"{name}\.gz: the gzip archive ends too early, after line \d+"):
        load("records")
    file.write_bytes(packed[:1000] + bytes(200) + packed[1200:])
    with pytest.raises(CtrlRecError, match=rf"{name}\.gz: damaged after line \d+ .*download it again"):
        load("records")


@pytest.mark.parametrize(("encoding", "place"), [("latin-1", 2), ("utf-16", 1)])
def test_another_encoding_is_refused_with_file_and_line(load, tmp_path, encoding, place):
    records(tmp_path / "in", ROWS, [])
    rows = "".join(line + "\n" for line in (*items(1), items(1, "Com\u00e9die")[0].replace("\\u00e9", "\u00e9")))
    write(tmp_path / "in" / "items.jsonl", rows.encode(encoding))
    with pytest.raises(CtrlRecError, match=rf"items\.jsonl:{place}: not UTF-8"):
        load("records")


def test_an_endless_line_does_not_fill_the_memory(load, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(lines, "_MAX_LINE_BYTES", 5000)
    records(tmp_path / "in", ROWS, ["x" * 10_000])
    with pytest.raises(CtrlRecError, match=r"items\.jsonl:1: a line of more than"):
        load("records")


@pytest.mark.parametrize(
    "stray",
    [
        'i11,"Title 11,Drama',  # never closed
        'i11,"Title" 11,Drama',
        "i11,Title\r11,Drama",
    ],
)
@pytest.mark.parametrize("closed", ["i15,Title 15,Drama", 'i15,"Title 15",Drama'])
@pytest.mark.parametrize("size", [lines.BLOCK_BYTES, 40])
def test_a_stray_quote_takes_its_own_row_alone(load, tmp_path, monkeypatch, stray, closed, size):
    """Be there another quote further down at which its field could end, or none for more than a field may hold."""
    monkeypatch.setattr(lines, "BLOCK_BYTES", size)
    rows = ["item,title,categories", *(f"i{n},Title {n},Drama" for n in range(5000 if size > 40 else 50))]
    rows[1], rows[12], rows[16] = 'i0,"Title, ""the"" 0",Drama', stray, closed
    records(tmp_path / "in", [("a", f"i{n}", n) for n in range(20)], [])
    (tmp_path / "in" / "items.jsonl").unlink()
    write(tmp_path / "in" / "items.csv", rows)
    prepared = load("records")
    assert prepared.report["skipped"] == {
        "row with a stray double quote or a bare carriage return": {"rows": 1, "first": ["items.csv:13"]}
    }
    expected = ['Title, "the" 0', *(f"Title {n}" for n in range(1, 20) if n != 11)]
    assert list(prepared.catalogue.titles) == expected


def test_a_stray_quote_that_another_ends_loses_no_row_behind_it(load, tmp_path):
    """The field between them makes a row too long, which is left out; the lines inside it are rows of their own."""
    rows = ["item,title,categories", *(f"i{n},Title {n},Drama" for n in range(40))]
    rows[12], rows[16] = 'i11,"Title 11', 'i15",Title,15,Drama'
    records(tmp_path / "in", [("a", f"i{n}", n) for n in range(20)], [])
    (tmp_path / "in" / "items.jsonl").unlink()
    write(tmp_path / "in" / "items.csv", rows)
    prepared = load("records")
    assert set(range(20)) - {int(item[1:]) for item in prepared.catalogue.items if item[1:].isdigit()} == {11, 15}
    found = prepared.report["skipped"]["row with a wrong number of fields"]
    assert found == {"rows": 2, "first": ["items.csv:13", "items.csv:17"]}


def test_stray_quotes_in_a_tenth_of_the_rows_are_refused(load, tmp_path):
    records(tmp_path / "in", [(f"u{n}" if n % 5 else f'"u"{n}', f"i{n % 3}", n) for n in range(40)], items(3))
    with pytest.raises(CtrlRecError, match=r"interactions\.csv:2: row with a stray double quote .* 8 of the first 40"):
        load("records")


def test_each_file_answers_for_its_own_rows(load, tmp_path):
    """Three of 43 rows of the metadata are few, though they are more than a tenth of the 20 interactions."""
    records(tmp_path / "in", [(f"u{n % 4}", f"i{n % 5}", n) for n in range(20)], [])
    (tmp_path / "in" / "items.jsonl").unlink()
    rows = [*(f"i{n},Title {n},Drama" for n in range(40)), *["bad,row"] * 3]
    write(tmp_path / "in" / "items.csv", ["item,title,categories", *rows])
    assert skipped(load("records")) == {"row with a wrong number of fields": 3}
    interactions = tmp_path / "in" / "interactions.csv"
    write(interactions, [*interactions.read_text().splitlines(), "bad,row", "u1,i1,now"])
    found = load("records").report["skipped"]
    assert found["row with a wrong number of fields"] == {"rows": 4, "first": [f"items.csv:{n}" for n in (42, 43, 44)]}
    assert found["interaction without a readable timestamp"]["first"] == ["interactions.csv:23"]
    write(interactions, [*interactions.read_text().splitlines(), "bad,row", "worse"])
    with pytest.raises(CtrlRecError, match=r"interactions\.csv:22: row with .*: expected 3 .* 3 of the first 24"):
        load("records")


def test_parsed_logs_that_were_damaged_are_parsed_again(load, tmp_path, caplog):
    records(tmp_path / "in", ROWS, items(3))
    expected = titles(load("records"))
    (folder,) = (place for place in (tmp_path / "cache" / "parsed").iterdir() if place.is_dir())
    for name, damage in (("interactions", None), ("items", 100), ("interactions", 0)):
        file = folder / f"{name}.parquet"
        content = file.read_bytes()
        file.unlink() if damage is None else file.write_bytes(content[:damage])
        assert titles(load("records")) == expected
        assert file.read_bytes() == content
    assert [record.getMessage().startswith(f"{folder}: damaged") for record in caplog.records] == [True] * 3


def test_a_parquet_file_without_the_columns_or_that_is_none_is_refused(load, tmp_path):
    records(tmp_path / "in", ROWS, items(3))
    (tmp_path / "in" / "interactions.csv").unlink()
    file = tmp_path / "in" / "interactions.parquet"
    write(file, b"PAR1 no")
    refused = r"interactions\.parquet: not a parquet file with columns user, item, timestamp"
    with pytest.raises(CtrlRecError, match=refused):
        load("records")
    for rows in ({"user": ["a"], "item": ["i0"]}, {"user": [["a"]], "item": ["i0"], "timestamp": [1]}):
        pl.DataFrame(rows).write_parquet(file)
        with pytest.raises(CtrlRecError, match=refused):
            load("records")
    pl.DataFrame({"user": ["a"] * 3, "item": ["i0", "i1", "i2"], "timestamp": [1, 2, 3]}).write_parquet(file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CtrlRecError, match=refused):
        load("records")


def test_a_broken_archive_is_named(tmp_path):
    place = tmp_path / "ml-1m.zip"
    write(place, b"PK\x03\x04 half a download")
    with pytest.raises(CtrlRecError, match=r"ml-1m\.zip: expected a folder or a whole zip archive"):
        read_raw(config("movielens_1m", place), tmp_path / "cache")
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "1::1::5::1\n")
        archive.writestr("ml-1m/movies.dat", "1::a::Drama\n")
    place.write_bytes(place.read_bytes().replace(b"1::1::5::1", b"1::1::4::1"))
    with pytest.raises(CtrlRecError, match=r"ml-1m\.zip!ml-1m/ratings\.dat: damaged .*CRC.*download it again"):
        read_raw(config("movielens_1m", place), tmp_path / "cache")


def test_a_malicious_literal_in_place_of_a_review_does_nothing(load, tmp_path):
    trap = tmp_path / "trap"
    reviews = [f"{{'username': 'a', 'product_id': 'i{n}', 'date': '2017-12-0{n + 1}'}}" for n in range(3)]
    attack = f"{{'username': open({str(trap)!r}, 'w').name, 'product_id': 'i0', 'date': '2017-12-09'}}"
    write(tmp_path / "in" / "steam_reviews.json", [*reviews * 5, attack])
    write(tmp_path / "in" / "steam_games.json", [f"{{'id': 'i{n}', 'title': 'T{n}', 'tags': ['C']}}" for n in range(3)])
    prepared = load("steam")
    assert titles(prepared) == {"a": ["T0", "T1", "T2"]}
    assert prepared.report["skipped"] == {
        "line that is not a Python literal": {"rows": 1, "first": ["steam_reviews.json:16"]}
    }
    assert not trap.exists()


@pytest.fixture
def build(load, make_builder):
    """Instructions from the folder ``in``, with an untrained teacher."""

    def run():
        prepared = load("records")
        teacher = SASRec(len(prepared.catalogue), 10, SASRecOptions(embedding=16, layers=1, heads=2, dropout=0.0))
        parts = {"catalogue": prepared.catalogue, "sequences": prepared.sequences, "ranker": Ranker(teacher)}
        return make_builder(chat_ratio=0, **parts)

    return run


def test_a_category_of_fewer_items_than_asked_for_is_asked_for_fewer(build, tmp_path):
    metadata = [*items(3, "Tiny"), *items(30, "Large")[3:]]
    records(tmp_path / "in", [(f"u{n % 8}", f"i{n * 7 % 30}", n) for n in range(8 * 15)], metadata)
    builder = build()
    tiny = set(range(3))
    counts = set()
    for example in (example for epoch in range(20) for example in builder.epoch(epoch, ("category", "search"))):
        asked = example.instruction
        assert len(example.labels) == len(set(example.labels)) == asked.item_count
        if asked.category == "Tiny" and asked.task == "category_positive":
            assert set(example.labels) <= tiny - set(asked.history)
            counts.add(asked.item_count)
        if asked.category == "Tiny" and asked.task == "category_negative":
            assert not tiny & set(example.labels)
    assert counts == {1, 2, 3}


def test_users_of_two_three_and_four_interactions(build, tmp_path):
    rows = [(f"u{length}", f"i{n}", n) for length in (2, 3, 4) for n in range(length)]
    records(tmp_path / "in", rows, items(4))
    builder = build()
    assert builder.sequences.users == ("u3", "u4")
    trained = {example.instruction.user for example in builder.epoch(0, ("sequential", "category"))}
    assert trained == {"u4"}, "the last two of three are held out, and one alone has no history"
    assert {example.instruction.user for example in builder.validation()} == {"u3", "u4"}
    (asked,) = builder.complete([builder.question("sequential", 0, 10, None)])
    assert (asked.instruction.history, asked.instruction.target) == ((0, 1), 2)
