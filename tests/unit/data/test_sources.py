"""Every source in its published format."""

import gzip
import json
import socket
import subprocess
import zipfile

import polars as pl
import pytest
import requests
from dataset_files import all_writable, config, items, records, skipped, titles, uncut, write

from ctrlrec.data.prepare import prepare, read_raw, source_digest
from ctrlrec.data.sources import SOURCES
from ctrlrec.data.sources.base import Source
from ctrlrec.errors import CtrlRecError

STAMPS = (3, 1, 2)
IN_ORDER = ["b", "c", "a"]


def amazon(folder, metadata, name="Movies_and_TV", reviews="{}_5.json.gz"):
    rows = [
        json.dumps({"overall": 5.0, "reviewText": "", "reviewerID": "A1", "asin": asin, "unixReviewTime": stamp})
        for asin, stamp in zip("abc", STAMPS, strict=True)
    ]
    write(folder / reviews.format(name), rows)
    write(folder / f"meta_{name}.json.gz", metadata)


def test_amazon_2018_drops_the_root_and_joins_prefixes(load, tmp_path):
    paths = {"a": ["Movies & TV", "Art House & International", "By Original Language"], "b": ["Movies & TV", "Drama"]}
    paths["c"] = ["Movies & TV", "Drama", "</span></span></span>", "Scraps", ""]
    rows = [json.dumps({"category": paths[asin], "title": asin, "asin": asin, "price": "$1"}) for asin in "abc"]
    amazon(tmp_path / "in", rows)
    prepared = load("amazon", category="Movies_and_TV")
    assert prepared.catalogue.categories == (
        ("Art House & International", "Art House & International, By Original Language"),
        ("Drama",),
        ("Drama",),
    )
    assert prepared.catalogue.target_categories[0] == "Art House & International, By Original Language"
    assert titles(prepared) == {"A1": IN_ORDER}
    assert prepared.report["kept"]["categories"]["kind"] == "path"


def test_amazon_2014_reads_nested_categories_out_of_python_literals(load, tmp_path):
    rows = [
        f"{{'asin': '{asin}', 'title': {title!r}, 'related': {{'also_viewed': ['x', 'y']}}, 'salesRank': {{}}, "
        f"'categories': [['Movies & TV', 'Movies'], ['Movies & TV', 'Kids & Family', 'Disney']]}}"
        for asin, title in zip("abc", ["It's", 'Say "x"', "caf\u00e9 \\u2665"], strict=True)
    ]
    amazon(tmp_path / "in", rows, reviews="reviews_{}_5.json.gz")
    prepared = load("amazon")
    assert prepared.catalogue.titles == ("It's", 'Say "x"', "caf\u00e9 \\u2665")
    assert prepared.catalogue.categories[0] == ("Movies", "Kids & Family", "Kids & Family, Disney")
    assert prepared.catalogue.target_categories[0] == "Kids & Family, Disney"


@pytest.mark.parametrize("before", ["\ufeff", "\n", "  ", "a torn line\n"])
@pytest.mark.parametrize("begins", ["{{'asin'", "{{ 'asin'", '{{u"asin"'])
def test_amazon_2014_is_known_whatever_stands_before_its_first_record(load, tmp_path, before, begins):
    row = f"{begins}: '{{0}}', 'title': '{{0}}', 'categories': [['Root', 'Drama']]}}}}"
    rows = [row.format(asin) for asin in "abcdefghijk"]
    amazon(tmp_path / "in", [before + rows[0], *rows[1:]], reviews="reviews_{}_5.json.gz")
    prepared = load("amazon")
    assert titles(prepared) == {"A1": IN_ORDER}
    assert sum(skipped(prepared).values()) == before.startswith("a torn")


def test_amazon_paths_have_neither_blank_nor_padded_parts(load, tmp_path):
    paths = {"a": ["Root", "Drama ", "Crime"], "b": ["Root", " ", "Drama"], "c": ["Root", None, " Drama", "Crime\n"]}
    amazon(tmp_path / "in", [json.dumps({"category": paths[asin], "title": asin, "asin": asin}) for asin in "abc"])
    catalogue = load("amazon").catalogue
    assert catalogue.categories == (("Drama", "Drama, Crime"), ("Drama",), ("Drama", "Drama, Crime"))
    assert catalogue.target_categories == ("Drama, Crime", "Drama", "Drama, Crime")


def test_amazon_lines_may_miss_fields_or_hold_null_in_them(load, tmp_path):
    rows = [
        '{"asin": "a", "title": "a", "category": ["R", "C"], "price": null, "rank": [], "details": {"x": "y"}}',
        '{"category": ["R", "C", "D"], "title": "b", "asin": "b", "price": "$5.99", "rank": "1 in X ("}',
        '{"asin": "c", "title": "c", "category": ["R", null, "C"], "also_buy": null}',
        '{"asin": "d", "title": "d", "category": null, "main_cat": "R"}',
        '{"asin": "e", "title": "e", "category": []}',
        '{"asin": "f", "title": "f", "category": ["R"]}',
        '{"asin": "g", "category": ["R", "C"]}',
    ]
    amazon(tmp_path / "in", rows)
    reviews = tmp_path / "in" / "Movies_and_TV_5.json.gz"
    more = [
        '{"reviewerID": "A1", "asin": "b", "unixReviewTime": null, "vote": "1,000"}',
        '{"reviewerID": null, "asin": "b", "unixReviewTime": 1, "style": {"Format:": " DVD"}}',
        '{"reviewerName": "no id", "asin": "b", "unixReviewTime": 1}',
    ]
    others = [json.dumps({"reviewerID": "A2", "asin": f"z{n}", "unixReviewTime": n}) for n in range(30)]
    write(reviews, [*gzip.decompress(reviews.read_bytes()).decode().splitlines(), *more, *others])
    prepared = load("amazon")
    assert titles(prepared) == {"A1": IN_ORDER}
    assert prepared.catalogue.categories == (("C",), ("C", "C, D"), ("C",))
    assert skipped(prepared) == {
        "item without title": 1,
        "item without category": 3,
        "interaction without user": 2,
        "interaction without a readable timestamp": 1,
    }


def test_amazon_2014_may_spell_reviews_as_python_literals_too(load, tmp_path):
    metadata = [f"{{'asin': '{asin}', 'title': '{asin}', 'categories': [['R', 'C']]}}" for asin in "abc"]
    amazon(tmp_path / "in", metadata, reviews="reviews_{}.json.gz")
    rows = [
        f"{{'reviewerID': 'A1', 'asin': '{asin}', 'helpful': [0, 1], 'overall': 5.0, 'unixReviewTime': {stamp}}}"
        for asin, stamp in zip("abc", STAMPS, strict=True)
    ]
    write(tmp_path / "in" / "reviews_Movies_and_TV.json.gz", rows)
    assert titles(load("amazon")) == {"A1": IN_ORDER}


REVIEW_2023 = (
    '{{"rating": 5.0, "title": "Good", "asin": "v{0}", "parent_asin": "{0}", "user_id": "A1", "timestamp": {1}}}'
)
RATING_2023 = "A1,{0},5.0,{1}\nuser_id,parent_asin,rating,timestamp"


@pytest.mark.parametrize(
    ("name", "row"), [("X.jsonl.gz", REVIEW_2023), ("X.json", REVIEW_2023), ("X.csv", RATING_2023)]
)
def test_amazon_2023_names_parents_and_one_path(load, tmp_path, name, row):
    row, _, header = row.partition("\n")
    metadata = {
        asin: {"main_category": "R", "title": asin, "categories": ["R", "C", "D"], "parent_asin": asin, "price": None}
        for asin in "abc"
    }
    metadata["b"]["categories"] = []
    metadata["c"] |= {"categories": ["R", "nan", "C"], "bought_together": None}
    write(tmp_path / "in" / "meta_X.jsonl", map(json.dumps, metadata.values()))
    rows = [row.format(asin, f"16000000{stamp}0000") for asin, stamp in zip("abc", STAMPS, strict=True)]
    write(tmp_path / "in" / name, [*([header] if header else []), *rows, row.format("a", "1600000040000")])
    raw = read_raw(config("amazon", tmp_path / "in"), tmp_path / "cache")
    assert raw.items.rows() == [("a", "a", ["C", "C, D"]), ("c", "c", ["C"])]
    assert raw.interactions.rows()[0] == ("A1", "a", 1_600_000_030_000_000)
    assert raw.report["skipped"] == {"item without category": {"rows": 1, "first": ["meta_X.jsonl:2"]}}


def test_amazon_ratings_may_have_a_header_of_their_own(load, tmp_path):
    metadata = [json.dumps({"category": ["R", "C"], "title": asin, "asin": asin}) for asin in "abc"]
    write(tmp_path / "in" / "meta_X.json", metadata)
    rows = [f"5.0,{asin},A1,{stamp}" for asin, stamp in zip("abc", STAMPS, strict=True)]
    write(tmp_path / "in" / "ratings_X.csv", ["rating,item,user,timestamp", *rows])
    assert titles(load("amazon")) == {"A1": IN_ORDER}


def test_files_of_another_publisher_are_pointed_to_records(tmp_path):
    write(tmp_path / "ml-1m.inter", ["user_id:token"])
    with pytest.raises(
        CtrlRecError, match=r"no ratings\.dat .* holds ml-1m\.inter\. Is it another .*dataset=records reads"
    ):
        read_raw(config("movielens_1m", tmp_path), tmp_path / "cache")


def test_any_category_of_amazon_is_taken_by_its_name(load, tmp_path):
    for name in ("Books", "Gift_Cards"):
        rows = [json.dumps({"category": ["R", name], "title": asin, "asin": asin}) for asin in "abc"]
        amazon(tmp_path / "in", rows, name)
    assert load("amazon", category="Books").catalogue.category_names == ("Books",)
    assert load("amazon", category="Gift_Cards").catalogue.category_names == ("Gift_Cards",)
    with pytest.raises(CtrlRecError, match=r"no meta_Toys\.json or .* there; it holds Books_5\.json\.gz, "):
        load("amazon", category="Toys")


@pytest.mark.parametrize(("name", "row"), [("ratings_X.csv", "A1,{},5.0,{}"), ("X.csv", "{},A1,5.0,{}")])
def test_amazon_ratings_alone_have_their_columns_in_either_order(load, tmp_path, name, row):
    metadata = [json.dumps({"category": ["R", "C"], "title": asin, "asin": asin}) for asin in "abc"]
    write(tmp_path / "in" / "meta_X.json", metadata)
    write(tmp_path / "in" / name, [row.format(asin, stamp) for asin, stamp in zip("abc", STAMPS, strict=True)])
    assert titles(load("amazon")) == {"A1": IN_ORDER}


def test_amazon_asks_for_a_category_or_a_folder_and_for_one_category_only(tmp_path):
    with pytest.raises(CtrlRecError, match=r"dataset\.category is empty"):
        read_raw(config("amazon", tmp_path, path=None), tmp_path)
    for name in "XY":
        write(tmp_path / f"meta_{name}.json.gz", [])
    with pytest.raises(CtrlRecError, match=r"2 files are meta_\*\.json\.gz"):
        read_raw(config("amazon", tmp_path), tmp_path)


def test_steam_takes_tags_and_genres_where_there_is_no_tag(load, tmp_path):
    games = [
        "{u'id': u'a', u'title': u'a', u'app_name': u'A', u'genres': [u'Action'], u'tags': [u'Shooter', u'FPS']}",
        "{u'id': u'b', u'app_name': u'b', u'genres': [u'Indie'], u'price': 4.99, u'early_access': False}",
        "{u'id': u'c', u'title': u'c', u'genres': [u'Indie'], u'tags': [], u'metascore': None}",
        "{u'title': u'd', u'tags': [u'Shooter']}",
        "{u'id': u'e', u'title': u' ', u'app_name': u'E', u'genres': [u'Indie'], u'tags': [u'', u' ']}",
        *(f"{{u'id': u'{n}', u'title': u'nobody met it', u'tags': [u'FPS']}}" for n in range(9)),
    ]
    reviews = [
        f"{{u'username': u'Chaos \\u2665 Syren', u'hours': 0.1, u'product_id': u'{item}', "
        f"u'date': u'2017-12-{day:02}', u'text': u\"it's 'product_id': u'zzz', u'date': u'1999-01-01'\", u'page': 1}}"
        for item, day in zip("abce", [*STAMPS, 30], strict=True)
    ]
    write(tmp_path / "in" / "steam_games.json.gz", games)
    write(tmp_path / "in" / "steam_reviews.json.gz", reviews)
    prepared = load("steam")
    assert prepared.catalogue.categories == (("Shooter", "FPS"), ("Indie",), ("Indie",), ("Indie",))
    assert titles(prepared) == {"Chaos \u2665 Syren": [*IN_ORDER, "E"]}
    assert skipped(prepared) == {"item without id": 1}


def movielens_1m(folder):
    write(folder / "ratings.dat", [f"1::{item}::5::{stamp}" for item, stamp in zip((1, 2, 3), STAMPS, strict=True)])
    lines = "1::a::Drama|Comedy\n2::b::Drama\n3::c\u00e9::Drama\n"
    (folder / "movies.dat").write_bytes(lines.encode("latin-1"))


def test_movielens_1m_is_latin_1_with_double_colons(load, tmp_path):
    movielens_1m(tmp_path / "in")
    prepared = load("movielens_1m")
    assert prepared.catalogue.titles == ("a", "b", "c\u00e9")
    assert prepared.catalogue.categories[0] == ("Drama", "Comedy")
    assert titles(prepared) == {"1": ["b", "c\u00e9", "a"]}


def test_movielens_10m_has_films_without_genre(tmp_path):
    movielens_1m(tmp_path)
    write(tmp_path / "movies.dat", ["1::a::Drama", "2::b::Drama", "3::c::(no genres listed)"])
    raw = read_raw(config("movielens_1m", tmp_path), tmp_path / "cache")
    assert raw.items["title"].to_list() == ["a", "b"]
    assert raw.report["skipped"] == {"item without category": {"rows": 1, "first": ["movies.dat:3"]}}


def test_an_archive_as_published_is_read_in_place(tmp_path):
    movielens_1m(tmp_path)
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        for name in ("ratings.dat", "movies.dat"):
            archive.write(tmp_path / name, f"ml-1m/{name}")
    raw = read_raw(config("movielens_1m", tmp_path / "ml-1m.zip"), tmp_path / "cache")
    assert len(raw.interactions) == 3


def test_movielens_1m_may_be_a_part_of_the_ratings(load, tmp_path):
    movielens_1m(tmp_path / "in")
    (tmp_path / "in" / "ratings.dat").rename(tmp_path / "in" / "ratings_first_3_rows.dat")
    assert titles(load("movielens_1m")) == {"1": ["b", "c\u00e9", "a"]}


@pytest.mark.parametrize("name", ["movielens_latest", "movielens_32m"])
def test_movielens_csv_has_quoted_titles_and_films_without_genre(load, tmp_path, name):
    ratings = [f"1,{item},4.5,{stamp}" for item, stamp in zip((1, 2, 3), STAMPS, strict=True)]
    write(tmp_path / "in" / "ratings.csv", ["userId,movieId,rating,timestamp", *ratings, "1,4,3.0,9", "1,1,3.0,10"])
    films = [
        '1,"American President, The (1995)",Comedy|Drama',
        "2,b,Drama",
        '3,"Say ""c""",Drama',
        "4,d,(no genres listed)",
    ]
    lines = "\r\n".join(["movieId,title,genres", *films, ""])  # as published: with the line ends of Windows
    write(tmp_path / "in" / "movies.csv", lines.encode())
    prepared = load("movielens_csv", name=name)
    assert prepared.catalogue.titles == ("American President, The (1995)", "b", 'Say "c"')
    assert skipped(prepared) == {"item without category": 1}


def test_movielens_100k_as_the_wheel_and_as_grouplens_publish_it(tmp_path):
    wheel, published = tmp_path / "recbole-1.2.1-py3-none-any.whl", tmp_path / "ml-100k"
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t1\t3\t3\n1\t2\t3\t1\n1\t3\t3\t2\n"
    item = (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's\n"
        "2\tWizard of Oz, The\t1939\tDrama\n"
        "3\tLand Before Time III (1995)\tV\tDrama\n"
        "267\tunkonwn\tunkonwn\tunknown\n"
    )
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("recbole/dataset_example/ml-100k/ml-100k.inter", inter)
        archive.writestr("recbole/dataset_example/ml-100k/ml-100k.item", item)
    published.mkdir()
    write(published / "u.data", ["1\t1\t3\t3", "1\t2\t3\t1", "1\t3\t3\t2"])
    genres = {"1": (3, 4), "2": (8,), "3": (8,), "267": (0,)}
    names = {
        "1": "Toy Story (1995)",
        "2": "Wizard of Oz, The (1939)",
        "3": "Land Before Time III (1995)",
        "267": "unknown",
    }
    rows = [
        "|".join([key, name, "01-Jan-1995", "", "http://x", *("1" if n in genres[key] else "0" for n in range(19))])
        for key, name in names.items()
    ]
    (published / "u.item").write_bytes("\n".join(rows).encode("latin-1"))
    archived = tmp_path / "ml-100k.zip"
    with zipfile.ZipFile(archived, "w") as archive:
        archive.writestr("ml-100k/u1.base", "not the whole")
        for file in published.iterdir():
            archive.write(file, f"ml-100k/{file.name}")
    one, *others = (
        prepare(config("movielens_100k", path), tmp_path / "cache", uncut, all_writable)
        for path in (wheel, published, archived)
    )
    assert one.catalogue.titles == ("Toy Story (1995)", "Wizard of Oz, The (1939)", "Land Before Time III (1995)")
    assert one.catalogue.categories[0] == ("Animation", "Children's")
    for other in others:
        assert one.catalogue == other.catalogue
        assert titles(one) == titles(other)


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".tsv", ".jsonl", ".jsonl.gz", ".parquet"])
def test_records_are_the_same_in_every_format(tmp_path, ending):
    rows = [("a", f"i{n}", 10 - n) for n in range(4)]
    names = [{"item": f"i{n}", "title": f"{n}. Angry Men", "categories": ["Drama", "Court"]} for n in range(4)]
    reference = tmp_path / "reference"
    reference.mkdir()
    records(reference, rows, [json.dumps(row) for row in names])
    folder = tmp_path / "in"
    folder.mkdir()
    interactions = [dict(zip(("user", "item", "timestamp"), row, strict=True)) for row in rows]
    if ".jsonl" in ending:
        write(folder / f"interactions{ending}", [json.dumps(row) for row in interactions])
        write(folder / f"items{ending}", [json.dumps(row) for row in names])
    elif ending == ".parquet":
        pl.DataFrame(interactions).write_parquet(folder / "interactions.parquet")
        pl.DataFrame(names).write_parquet(folder / "items.parquet")
    else:
        separator = "\t" if "tsv" in ending else ","
        for stem, table in (("interactions", interactions), ("items", names)):
            joined = [{**row, **({"categories": "Drama|Court"} if stem == "items" else {})} for row in table]
            lines = [separator.join(joined[0]), *(separator.join(map(str, row.values())) for row in joined)]
            write(folder / f"{stem}{ending}", lines)
    expected, got = (read_raw(config("records", place), tmp_path / "cache") for place in (reference, folder))
    assert got.interactions.equals(expected.interactions)
    assert got.items.equals(expected.items)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("Drama|Sci-Fi, Space", ("Drama", "Sci-Fi, Space")),
        ('["Drama", "Sci-Fi \\u2665"]', ("Drama", "Sci-Fi \u2665")),
        ("['Drama', \"Children's\"]", ("Drama", "Children's")),
        ("[REC]|Drama", ("[REC]", "Drama")),
        ("7", ("7",)),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_categories_of_a_field_may_be_spelled_as_a_list(load, tmp_path, written, names, ending):
    records(tmp_path / "in", [("a", f"i{n}", n) for n in range(3)], [])
    (tmp_path / "in" / "items.jsonl").unlink()
    columns = {"item": ["i0", "i1", "i2"], "title": ["T0", "T1", "T2"], "categories": [written] * 3}
    if ending == "parquet":
        pl.DataFrame(columns).write_parquet(tmp_path / "in" / "items.parquet")
    else:
        pl.DataFrame(columns).write_csv(tmp_path / "in" / f"items.{ending}", separator="\t" if ending == "tsv" else ",")
    assert load("records").catalogue.categories == (names,) * 3


@pytest.mark.parametrize(
    "categories",
    [
        pl.Series([["A", "B"], ["A", None], None]),
        pl.Series([["A", "B"], ["A", None], []], dtype=pl.List(pl.Categorical)),
        pl.Series([["A", "B"], ["A", ""], [None, None]], dtype=pl.Array(pl.String, 2)),
        pl.Series(["A|B", "A", None], dtype=pl.Categorical),
    ],
    ids=lambda series: str(series.dtype),
)
def test_columns_of_parquet_may_have_types_of_their_own(tmp_path, categories):
    items_ = {"title": [1917, 1984, 2001], "categories": categories, "item": [10, 11, 12]}
    pl.DataFrame(items_).write_parquet(tmp_path / "items.parquet")
    users = pl.Series([*"abcdefghij", None], dtype=pl.Categorical)
    rows = {"user": users, "item": range(10, 21), "timestamp": [1.5, *range(2, 12)]}
    pl.DataFrame(rows, strict=False).write_parquet(tmp_path / "interactions.parquet")
    raw = read_raw(config("records", tmp_path), tmp_path / "cache")
    assert raw.items.rows() == [("10", "1917", ["A", "B"]), ("11", "1984", ["A"])]
    assert raw.interactions.rows()[:2] == [("a", "10", 1_500_000), ("b", "11", 2_000_000)]
    assert len(raw.interactions) == 10


def test_whole_numbers_that_pandas_made_floats_are_the_ids_they_were(tmp_path):
    users = [7.0, None, float("nan"), *[8.5] * 20]
    rows = {"user": users, "item": [float(n) for n in range(10, 33)], "timestamp": range(1, 24)}
    pl.DataFrame(rows).write_parquet(tmp_path / "interactions.parquet")
    write(tmp_path / "items.jsonl", [json.dumps({"item": 10, "title": "T", "categories": ["C"]})])
    raw = read_raw(config("records", tmp_path), tmp_path / "cache")
    assert raw.interactions.rows()[:2] == [("7", "10", 1_000_000), ("8.5", "13", 4_000_000)]
    assert raw.report["skipped"]["interaction without user"] == {
        "rows": 2, "first": ["interactions.parquet:2", "interactions.parquet:3"],
    }  # fmt: skip


def test_a_compressed_file_is_known_by_its_content_not_by_its_name(load, tmp_path):
    records(tmp_path / "in", [("a", f"i{n}", n) for n in range(3)], items(3))
    file = tmp_path / "in" / "interactions.csv"
    file.write_bytes(gzip.compress(file.read_bytes()))
    assert len(titles(load("records"))["a"]) == 3


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_a_missing_place_and_an_empty_folder_are_named(source, tmp_path):
    with pytest.raises(CtrlRecError, match="nowhere: no such file or folder"):
        read_raw(config(source, tmp_path / "nowhere"), tmp_path / "cache")
    with pytest.raises(CtrlRecError, match=r"no .* \(plain or \.gz\) there; it holds nothing"):
        (tmp_path / "empty").mkdir()
        read_raw(config(source, tmp_path / "empty"), tmp_path / "cache")


# The smallest files of every source as published: what stands there after the name is one row an item.
PUBLISHED = {
    "amazon": {
        "Books_5.json.gz": '{{"reviewerID": "u", "asin": "{0}", "unixReviewTime": {0}}}',
        "meta_Books.json.gz": '{{"category": ["Books", "C"], "title": "T{0}", "asin": "{0}"}}',
    },
    "movielens_100k": {"u.data": "u\t{0}\t5\t{0}", "u.item": "{0}|T{0}|||" + "|0|1" + "|0" * 17},
    "movielens_1m": {"ratings.dat": "u::{0}::5::{0}", "movies.dat": "{0}::T{0}::C"},
    "movielens_csv": {
        "ratings.csv": "{0},u,{0}\ntimestamp,userId,movieId",
        "movies.csv": "{0},T{0},C\nmovieId,title,genres",
    },
    "records": {
        "interactions.tsv": "{0}\tu\t{0}\ntimestamp\tuser\titem",
        "items.tsv": "{0}\tT{0}\tC\nitem\ttitle\tcategories",
    },
    "steam": {
        "steam_reviews.json.gz": "{{u'username': u'u', u'product_id': u'{0}', u'date': u'2017-12-0{0}'}}",
        "steam_games.json.gz": "{{u'title': u'T{0}', u'tags': [u'C'], u'id': u'{0}'}}",
    },
}


def published(source, folder):
    for name, form in PUBLISHED[source].items():
        row, _, header = form.partition("\n")
        write(folder / name, [*([header] if header else []), *(row.format(n) for n in (1, 2, 3))])


@pytest.mark.parametrize("source", sorted(PUBLISHED))
def test_a_path_touches_no_network(load, tmp_path, monkeypatch, source):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    for module, name in ((socket, "socket"), (subprocess, "run"), (requests, "get")):
        monkeypatch.setattr(module, name, refuse)
    published(source, tmp_path / "in")
    assert titles(load(source)) == {"u": ["T1", "T2", "T3"]}
    assert source_digest(config(source, tmp_path / "in"))


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("amazon", ["/amazon_v2/categoryFilesSmall/Books_5.json.gz", "/amazon_v2/metaFiles2/meta_Books.json.gz"]),
        ("steam", ["/steam_reviews.json.gz", "/steam_games.json.gz"]),
        ("movielens_1m", ["/ml-1m.zip"]),
        ("movielens_latest", ["/ml-latest-small.zip"]),
        ("movielens_32m", ["/ml-32m.zip"]),
    ],
)
def test_without_a_path_the_published_files_are_fetched(load, tmp_path, monkeypatch, name, ends):
    asked = []

    def fetch(url, known_hash, cache):
        asked.append(url)
        archive = url.endswith(".zip")
        assert url.startswith("https://")
        assert cache == tmp_path / "cache"
        assert known_hash is not None or not archive, "where the publisher gives a checksum it is checked"
        return tmp_path / "in" if archive else tmp_path / "in" / url.rpartition("/")[2]

    source = name if name in SOURCES else "movielens_csv"
    monkeypatch.setattr(f"ctrlrec.data.sources.{source}.fetch", fetch)
    published(source, tmp_path / "in")
    assert titles(load(source, name=name, path=None, category="Books")) == {"u": ["T1", "T2", "T3"]}
    assert [url[-len(end) :] for url, end in zip(asked, ends, strict=True)] == ends


def test_records_and_other_csv_files_have_no_address(tmp_path):
    for source in ("records", "movielens_csv"):
        with pytest.raises(CtrlRecError, match=r"dataset\.path is empty"):
            read_raw(config(source, tmp_path, path=None), tmp_path)


def test_every_module_of_sources_is_one():
    """The configuration looks at the files alone: what it lets through must be a source."""
    assert all(isinstance(source, Source) for source in SOURCES.values())
