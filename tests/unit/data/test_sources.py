"""Every source in its published format."""

import gzip
import json
import zipfile

import polars as pl
import pytest
from dataset_files import config, items, records, skipped, titles, uncut, write

from ctrlrec.data.prepare import prepare, read_raw
from ctrlrec.data.sources import SOURCES
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
    ]
    reviews = [
        f"{{u'username': u'Chaos \\u2665 Syren', u'hours': 0.1, u'product_id': u'{item}', "
        f"u'date': u'2017-12-{day:02}', u'text': u\"it's 'product_id': u'zzz', u'date': u'1999-01-01'\", u'page': 1}}"
        for item, day in zip("abc", STAMPS, strict=True)
    ]
    write(tmp_path / "in" / "steam_games.json.gz", games)
    write(tmp_path / "in" / "steam_reviews.json.gz", reviews)
    prepared = load("steam")
    assert prepared.catalogue.categories == (("Shooter", "FPS"), ("Indie",), ("Indie",))
    assert titles(prepared) == {"Chaos \u2665 Syren": IN_ORDER}
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


def test_an_archive_as_published_is_read_in_place(tmp_path):
    movielens_1m(tmp_path)
    with zipfile.ZipFile(tmp_path / "ml-1m.zip", "w") as archive:
        for name in ("ratings.dat", "movies.dat"):
            archive.write(tmp_path / name, f"ml-1m/{name}")
    raw = read_raw(config("movielens_1m", tmp_path / "ml-1m.zip"), tmp_path / "cache")
    assert len(raw.interactions) == 3


@pytest.mark.parametrize("name", ["movielens_latest", "movielens_32m"])
def test_movielens_csv_has_quoted_titles_and_films_without_genre(load, tmp_path, name):
    ratings = [f"1,{item},4.5,{stamp}" for item, stamp in zip((1, 2, 3), STAMPS, strict=True)]
    write(tmp_path / "in" / "ratings.csv", ["userId,movieId,rating,timestamp", *ratings, "1,4,3.0,9"])
    films = [
        '1,"American President, The (1995)",Comedy|Drama',
        "2,b,Drama",
        '3,"Say ""c""",Drama',
        "4,d,(no genres listed)",
    ]
    write(tmp_path / "in" / "movies.csv", ["movieId,title,genres", *films])
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
    one, other = (prepare(config("movielens_100k", path), tmp_path / "cache", uncut) for path in (wheel, published))
    assert one.catalogue == other.catalogue
    assert one.catalogue.titles == ("Toy Story (1995)", "Wizard of Oz, The (1939)", "Land Before Time III (1995)")
    assert one.catalogue.categories[0] == ("Animation", "Children's")
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


def test_records_need_a_path(tmp_path):
    with pytest.raises(CtrlRecError, match=r"dataset\.path is empty"):
        read_raw(config("records", tmp_path, path=None), tmp_path)
