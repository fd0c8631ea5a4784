"""Python literals are read by a grammar: as ast.literal_eval would, never evaluated, and in linear time."""

import ast
import random
import string
import time

import polars as pl
import pytest
from dataset_files import write
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.literals import parse_literal, read_literals
from ctrlrec.errors import CtrlRecError

SCHEMA = {"id": pl.String, "name": pl.String, "tags": pl.List(pl.String), "paths": pl.List(pl.List(pl.String))}


def read(path, ledger=None):
    return pl.concat(read_literals(SourceFile(path), SCHEMA, ledger or Ledger()))


def python_2(value):
    """A literal as Python 2 wrote it: text with a u before it, everything else as today."""
    if isinstance(value, str):
        return "u" + ascii(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(python_2, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_2(key)}: {python_2(each)}" for key, each in value.items()) + "}"
    return repr(value)


text = st.text(st.sampled_from(string.printable + "\u2665\u05e9\u0301\U0001f600'\"\\{}[],: "), max_size=25)
other = st.one_of(text, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none())
fields = {"id": text, "name": text, "tags": st.lists(text, max_size=4), "paths": st.lists(st.lists(text, max_size=3))}
rows = st.fixed_dictionaries(
    {},
    optional={
        **fields,
        "text": text,
        "n": other,
        "related": st.dictionaries(text, st.lists(text, max_size=3), max_size=3),
    },
)


@settings(max_examples=150, deadline=None)
@given(st.lists(rows, min_size=1, max_size=6), st.sampled_from([repr, python_2]))
def test_every_record_is_read_as_literal_eval_reads_it(tmp_path_factory, records, spell):
    lines = [spell(record) for record in records]
    frame = read(write(tmp_path_factory.mktemp("literals") / "x.json", lines))
    for name in SCHEMA:
        assert frame[name].to_list() == [ast.literal_eval(line).get(name) for line in lines]


def test_text_that_looks_like_a_field_is_not_one(tmp_path):
    line = "{'text': \"x', 'id': 'evil', 'y': 'z\", 'id': 'good', 'note': '\\', \\'id\\': \\'evil'}"
    assert read(write(tmp_path / "x.json", [line]))["id"].to_list() == ["good"]


def test_the_last_of_equal_keys_counts_as_in_python(tmp_path):
    assert read(write(tmp_path / "x.json", ["{'id': '1', 'id': '2'}"]))["id"].to_list() == ["2"]


def test_notation_beyond_the_grammar_takes_the_slow_road(tmp_path):
    lines = [
        "{'id': ('a'),}",
        "{ 'id' : 'b' , 'tags' : ('x', 'y') }",
        "{'id': 'c' 'd', 'deep': {'a': {'b': {'c': [1]}}}}",
    ]
    frame = read(write(tmp_path / "x.json", lines))
    assert frame["id"].to_list() == ["a", "b", "cd"]
    assert frame["tags"].to_list() == [None, ["x", "y"], None]


def test_numbers_are_read_as_text_and_a_single_value_as_a_list_of_it(tmp_path):
    frame = read(
        write(tmp_path / "x.json", ["{'id': 10, 'tags': 'x', 'name': None}", "{'id': -1.5, 'tags': [1, None]}"])
    )
    assert frame["id"].to_list() == ["10", "-1.5"]
    assert frame["tags"].to_list() == [["x"], ["1", None]]
    assert frame["name"].to_list() == [None, None]


MALICIOUS = [
    "__import__('os').system('touch {0}')",
    "{{'id': __import__('os').system('touch {0}')}}",
    "{{'id': open('{0}', 'w')}}",
    "{{'id': [x for x in open('{0}', 'w')]}}",
    "{{'id': f'{{open(\"{0}\", \"w\")}}'}}",
    "(lambda: open('{0}', 'w'))()",
    "{{'id': 'x'}}; open('{0}', 'w')",
]


@pytest.mark.parametrize("line", MALICIOUS)
def test_a_malicious_literal_is_skipped_and_counted_and_does_nothing(tmp_path, line):
    trap, ledger = tmp_path / "trap", Ledger()
    lines = [*("{'id': 'x'}" for _ in range(20)), line.format(trap)]
    assert len(read(write(tmp_path / "x.json", lines), ledger)) == 20
    assert ledger.report() == {"line that is not a Python literal": {"rows": 1, "first": ["x.json:21"]}}
    assert not trap.exists()


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        "{'a':" * 100_000,
        "-" * 200_000 + "1",
        "{'a': " + "1+" * 100_000 + "1}",
        "{'id': " + "9" * 100_000 + "}",
        "{'id': '\\N{no such character}'}",
        "{" + "not " * 100_000 + "1}",
        "{'a': '" + "\\" * 200_001,
        "{'a': '" + "x', 'b': '" * 50_000,
        "{" + "'a': [[" * 50_000,
        "{'a': 'nul \0'}",
        "x" * 2_000_000,
    ],
    ids=lambda line: line[:12].replace("\0", "0"),
)
def test_a_monstrous_line_costs_no_crash_and_no_time(tmp_path, line):
    ledger, started = Ledger(), time.process_time()
    lines = [*("{'id': 'x'}" for _ in range(20)), line]
    assert len(read(write(tmp_path / "x.json", lines), ledger)) == 20
    assert sum(found["rows"] for found in ledger.report().values()) == 1
    assert time.process_time() - started < 5


@pytest.mark.parametrize("line", ["[1]", "'text'", "1", "{1, 2}", "", "{'a': b}"])
def test_what_is_no_dictionary_is_no_record(line):
    with pytest.raises(ValueError, match=r"."):
        parse_literal(line)


def test_a_json_file_in_place_of_literals_is_refused_where_it_stops_being_one(tmp_path):
    with pytest.raises(CtrlRecError, match=r"x\.json:1: line that is not a Python literal"):
        read(write(tmp_path / "x.json", ['{"id": true}'] * 3))


def test_a_damaged_line_does_not_change_its_neighbours(tmp_path):
    random.seed(0)
    lines = [python_2({"id": str(n), "name": "x" * (n % 9), "tags": ["a"]}) for n in range(50)]
    whole = read(write(tmp_path / "x.json", lines))
    cut = read(write(tmp_path / "y.json", [*lines[:30], lines[30][:-4], *lines[30:]]))
    assert cut.drop("line").equals(whole.drop("line"))
    assert cut["line"].to_list() == [*range(1, 31), *range(32, 52)]
