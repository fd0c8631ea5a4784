"""Real files, where there are some: CTRLREC_DATA names a folder with samples; without it these tests are skipped."""

import ast
import gzip
import os
import shutil
from pathlib import Path

import polars as pl
import pytest
from dataset_files import all_writable, config, uncut

from ctrlrec.data.files import SourceFile
from ctrlrec.data.ledger import Ledger
from ctrlrec.data.literals import read_literals
from ctrlrec.data.prepare import prepare, read_raw

DATA = Path(os.environ.get("CTRLREC_DATA", "/nonexistent"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="CTRLREC_DATA names no folder with samples")


@pytest.mark.parametrize(
    ("folder", "source", "core", "kind", "expected"),
    [
        ("steam", "records", 3, "flat", (6347, 1155, 29188)),
        ("beauty", "records", 5, "path", (22297, 12037, 197_928)),
        ("movielens", "records", 5, "flat", (6040, 3416, 999611)),
        ("amazon", "amazon", 3, "path", (458, None, None)),
    ],
)
def test_samples_load_with_their_known_sizes(tmp_path, folder, source, core, kind, expected):
    settings = config(source, DATA / folder, min_user_interactions=core, min_item_interactions=core)
    prepared = prepare(settings, tmp_path, uncut, all_writable)
    kept = prepared.report["kept"]
    for name, number in zip(("users", "items", "interactions"), expected, strict=True):
        assert number is None or kept[name] == number
    assert kept["categories"]["kind"] == kind
    assert len(set(prepared.catalogue.titles)) == len(prepared.catalogue)


def test_movielens_1m_as_published(tmp_path):
    place = tmp_path / "in"
    place.mkdir()
    shutil.copy(DATA / "movielens" / "movies.dat", place)
    (sample,) = (DATA / "movielens").glob("ratings*.dat.gz")
    shutil.copy(sample, place / "ratings.dat.gz")
    raw = read_raw(config("movielens_1m", place), tmp_path / "cache")
    published = read_raw(config("records", DATA / "movielens"), tmp_path / "cache")
    assert raw.report["skipped"] == {}
    assert raw.items.equals(published.items)


def test_real_literals_are_read_as_literal_eval_reads_them():
    file = DATA / "steam" / "steam_games.json.gz"
    ledger, names = Ledger(), pl.List(pl.String)
    schema = {"id": pl.String, "title": pl.String, "tags": names, "genres": names}
    frame = pl.concat(read_literals(SourceFile(file), schema, ledger))
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [ast.literal_eval(line) for _, line in zip(range(3000), lines, strict=False)]
    for name in schema:
        assert frame[name].head(3000).to_list() == [row.get(name) for row in rows]
    assert len(frame) == 32135
    assert ledger.report() == {}
