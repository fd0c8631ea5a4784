"""Lists as text are read as the programs that write them mean them, or refused; names are never joined."""

import contextlib
import json
import time

import numpy as np
import polars as pl
import pytest
from dataset_files import config, records, write
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlrec.data.literals import is_list, read_list
from ctrlrec.data.prepare import read_raw
from ctrlrec.errors import CtrlRecError


def postgres(names):
    quoted = ('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    return "{" + ",".join(quoted) + "}"


WRITERS = {
    "python": repr,
    "python 2": lambda names: "[" + ", ".join("u" + ascii(name) for name in names) + "]",
    "bytes": lambda names: repr([name.encode() for name in names]),
    "tuple": lambda names: repr(tuple(names)),
    "json": json.dumps,
    "json of PHP": lambda names: json.dumps(names).replace("/", "\\/"),
    "json, dense": lambda names: json.dumps(names, ensure_ascii=False, separators=(",", ":")),
    "numpy": lambda names: str(np.array(names, dtype=object)),
    "numpy in a frame": lambda names: repr(np.array(names, dtype=object)),
    "postgres": postgres,
}
NAMES = st.text(st.sampled_from("aZ 7'\"\\/,|[]{}()\n\t:=\u00e9\u2665\U0001f600"), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=5), writer=st.sampled_from(sorted(WRITERS)))
def test_names_come_back_whoever_wrote_them(names, writer):
    text = WRITERS[writer](names)
    assert is_list(text)
    assert read_list(text) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("['Drama', nan, 'War']", ["Drama", None, "War"]),
        ("['Drama' nan\n 'War']", ["Drama", None, "War"]),
        ('["Drama", null]', ["Drama", None]),
        ("[None 'Drama']", [None, "Drama"]),
        ("[nan]", [None]),
        ("[true, 'Drama']", [None, "Drama"]),
        ("[Drama, Sci-Fi & Fantasy]", ["Drama", "Sci-Fi & Fantasy"]),
        ("[Children's, Kids' Books (new), NULL]", ["Children's", "Kids' Books (new)", None]),
        ("['a, b', c]", ["a, b", "c"]),
        ("[Drama,, War]", ["Drama", "War"]),
        ("[Science Fiction]", ["Science Fiction"]),
        ('{Drama,"Sci-Fi, Space",NULL}', ["Drama", "Sci-Fi, Space", None]),
        ("{'Drama', 'War'}", ["Drama", "War"]),
        ("('Drama',)", ["Drama"]),
        ("frozenset({'Drama'})", ["Drama"]),
        ("array(['Drama', 'War'], dtype=object)", ["Drama", "War"]),
        ("array(['Drama'], dtype='<U5')", ["Drama"]),
        ("[1, 2.0, 5e3, 007]", ["1", "2", "5000", "007"]),
        ("[1 2 3]", ["1", "2", "3"]),
        *((empty, []) for empty in ("[]", "[ ]", "{}", "()", "set()", "array([], dtype=object)")),
    ],
)
def test_notations_of_other_programs(text, names):
    assert is_list(text)
    assert read_list(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "['Drama', 'War'", "[Drama, War", "Drama, War]", "{Drama", "['Drama' 'War', 'Crime']", "['Drama''War']",
        "['Drama'War']", "[Drama 'War']", "[['Drama'], ['War']]", "[[Drama], [War]]", "{'Drama': 1}", "{Drama: 1}",
        "[{'id': 18, 'name': 'Drama'}]", "['Drama' ... 'War']", "[__import__('os')]", r"['\q']", "['Drama]", "('Drama'",
    ],
)  # fmt: skip
def test_what_is_no_list_of_names_is_refused(text):
    assert is_list(text)
    with pytest.raises(ValueError, match=r"."):
        read_list(text)


@pytest.mark.parametrize(
    "text", ["Drama", "[REC]|Drama", "[REC]|[REC 2]", "{x}|y", "(no genres)", "Rock [live]", "a:)", ""]
)
def test_names_with_brackets_are_names(text):
    assert not is_list(text)


@pytest.mark.parametrize(
    "text",
    ["[" + "'a' " * 200_000 + "x]", "[" + "a," * 200_000 + "']", "['" + "\\" * 300_001 + "]", "[" + "'" * 300_000 + "]",
     "[" * 300_000 + "]", "[" + "a'" * 200_000 + "]", "[" + " " * 300_000 + "']", "array(" * 100_000 + "[]"],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_a_monstrous_text_costs_no_time(text):
    started = time.process_time()
    with contextlib.suppress(ValueError):
        read_list(text)
    assert time.process_time() - started < 2


def table(folder, fields, ending="csv"):
    count = len(fields)
    records(folder, [("a", f"i{n}", n) for n in range(count)], [])
    (folder / "items.jsonl").unlink()
    columns = {"item": [f"i{n}" for n in range(count)], "title": [f"T{n}" for n in range(count)], "categories": fields}
    if ending == "jsonl":
        write(
            folder / "items.jsonl",
            [json.dumps(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)],
        )
    elif ending == "parquet":
        pl.DataFrame(columns).write_parquet(folder / "items.parquet")
    else:
        pl.DataFrame(columns).write_csv(folder / "items.csv")


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_column_of_lists_as_text_is_the_same_in_every_format(load, tmp_path, ending):
    table(
        tmp_path / "in", ["['Drama' 'War']", "['Drama', nan]", '["Sci-Fi\\/Space"]', "{Drama,War}", "Drama|War"], ending
    )
    assert load("records").catalogue.categories == (
        ("Drama", "War"), ("Drama",), ("Sci-Fi/Space",), ("Drama", "War"), ("Drama", "War"),
    )  # fmt: skip


def test_a_name_in_brackets_is_a_list_only_among_lists(load, tmp_path):
    table(tmp_path / "in", ["[REC]", "Drama", "[REC]|Drama", "[REC, Drama]"])
    assert load("records").catalogue.categories == (("[REC]",), ("Drama",), ("[REC]", "Drama"), ("REC", "Drama"))
    table(tmp_path / "in", ["[Drama]", "[Drama, War]", None, "[Rock]"])
    assert load("records").catalogue.categories == (("Drama",), ("Drama", "War"), ("Rock",))


def test_unreadable_lists_are_counted_with_their_lines_and_refused_above_a_tenth(load, tmp_path):
    table(tmp_path / "in", [*["Drama"] * 30, "['Drama', 'War'", "Drama", "{'Drama': 1}"])
    prepared = load("records")
    assert prepared.report["skipped"] == {
        "item with unreadable categories": {"rows": 2, "first": ["items.csv:32", "items.csv:34"]}
    }
    assert prepared.catalogue.category_names == ("Drama",)
    table(tmp_path / "in", ["['Drama', 'War']", "['Drama', 'War'"])
    with pytest.raises(
        CtrlRecError, match=r"items\.csv:3: item with unreadable categories: expected names with \| .*1 of"
    ):
        read_raw(config("records", tmp_path / "in"), tmp_path / "cache")
