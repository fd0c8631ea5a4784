"""The rules of the catalogue and of the split."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from dataset_files import all_writable, config, items, records, titles, uncut, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctrlrec.config.schema import CategoryKind
from ctrlrec.data import catalogue as catalogue_module
from ctrlrec.data.catalogue import Catalogue, is_path, target_categories
from ctrlrec.data.prepare import prepare, read_raw, source_digest
from ctrlrec.data.sequences import Sequences
from ctrlrec.errors import CtrlRecError


def test_order_is_by_time_then_file_and_a_repeated_interaction_counts_once_when_first(load, tmp_path):
    rows = [
        ("b", "i1", 5),
        ("a", "i2", 9),
        ("a", "i0", 3),
        ("b", "i0", 5),
        ("a", "i1", 3),
        ("b", "i2", 1),
        ("a", "i0", 99),
    ]
    records(tmp_path / "in", rows, items(3))
    prepared = load("records")
    assert titles(prepared) == {"b": ["Title 2", "Title 1", "Title 0"], "a": ["Title 0", "Title 1", "Title 2"]}
    assert prepared.sequences.users == ("b", "a"), "users by first appearance in the file"
    assert prepared.report["dropped"]["repeated interactions"] == 1


def test_a_repeat_that_is_first_in_the_file_but_later_in_time_is_the_one_dropped(load, tmp_path):
    records(tmp_path / "in", [("a", "i0", 50), ("a", "i1", 2), ("a", "i2", 3), ("a", "i0", 1)], items(3))
    assert titles(load("records")) == {"a": ["Title 0", "Title 1", "Title 2"]}


def test_split_leaves_the_last_two_out_and_counts_only_training(load, tmp_path):
    rows = [(user, f"i{n}", n) for user in "ab" for n in range(14)]
    records(tmp_path / "in", rows, items(14))
    prepared = load("records", history_length=10)
    sequences = prepared.sequences
    assert sequences.train(0).tolist() == list(range(12))
    history, target = sequences.validation(0)
    assert (history.tolist(), target) == (list(range(2, 12)), 12)
    history, target = sequences.test(0)
    assert (history.tolist(), target) == (list(range(3, 13)), 13)
    assert prepared.catalogue.interactions == (2,) * 12 + (0, 0)


def test_items_that_share_a_title_after_cutting_are_one_with_the_first_id_and_all_categories(load, tmp_path):
    metadata = [
        json.dumps({"item": "x", "title": "Alien long", "categories": ["Horror", "Space"]}),
        json.dumps({"item": "y", "title": "Alien longer", "categories": ["Space", "Crew"]}),
        *items(2),
    ]
    records(tmp_path / "in", [("a", "y", 1), ("a", "i0", 2), ("a", "x", 3), ("a", "i1", 4)], metadata)
    prepared = load("records", cut=lambda names, _: [name[:5] if name.startswith("Alien") else name for name in names])
    assert prepared.catalogue.items == ("x", "i0", "i1")
    assert prepared.catalogue.titles == ("Alien", "Title 0", "Title 1")
    assert prepared.catalogue.categories[0] == ("Horror", "Space", "Crew")
    assert titles(prepared) == {"a": ["Alien", "Title 0", "Title 1"]}, "the merged item is repeated, so it counts once"
    assert prepared.report["titles"] == {"cut": 2, "merged": 1, "with_entities": 0}


def test_the_most_popular_items_are_kept_and_the_rest_is_counted(load, tmp_path):
    """Three users met i0 and i3, two i1 and i2, one i4; who repeats an item counts once."""
    met = {"a": (0, 3, 1, 2), "b": (3, 0, 2, 1), "c": (0, 4, 3)}
    rows = [(user, f"i{item}", place) for user, row in met.items() for place, item in enumerate(row)]
    rows += [("c", "i4", 90), ("c", "i4", 91)]
    records(tmp_path / "in", rows, items(5))
    prepared = load("records", most_popular=3)
    assert prepared.catalogue.items == ("i0", "i1", "i3")  # of i1 and i2 the first in the file
    assert titles(prepared) == {"a": ["Title 0", "Title 3", "Title 1"], "b": ["Title 3", "Title 0", "Title 1"]}
    assert prepared.report["dropped"]["interactions with less popular items"] == 3
    assert len(load("records", most_popular=None).catalogue) == 5


def test_the_toy_data_come_with_the_package(tmp_path):
    settings = config("toy", tmp_path, path=None, min_user_interactions=5)
    prepared = prepare(settings, tmp_path / "cache", uncut, all_writable)
    assert len(prepared.catalogue) > 100 and len(prepared.sequences) == 150
    assert set(prepared.catalogue.category_names) == {"Comedy", "Drama", "Horror", "Romance", "Thriller"}
    assert not prepared.report["skipped"]


def test_k_core_repeats_until_stable(load, tmp_path):
    # i3 has one user too few; without it c falls below three, without c i2 does, and a and b still hold.
    rows = [(user, f"i{n}", n) for user in "ab" for n in (0, 1, 4)]
    rows += [("c", "i2", 1), ("c", "i3", 2), ("c", "i0", 3), ("a", "i2", 9)]
    records(tmp_path / "in", rows, items(5))
    prepared = load("records", min_user_interactions=3, min_item_interactions=2)
    assert titles(prepared) == {user: ["Title 0", "Title 1", "Title 4"] for user in "ab"}
    assert prepared.report["k_core"]["rounds"] == 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 9)), min_size=1, max_size=90),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_result_obeys_every_rule_and_equals_the_plain_loop(tmp_path_factory, rows, users, popular):
    folder = tmp_path_factory.mktemp("data")
    named = [(f"u{user}", f"i{item}", time) for user, item, time in rows]
    records(folder, named, items(8))
    expected = _plain(named, max(users, 3), popular)
    settings_ = config("records", folder, min_user_interactions=users, min_item_interactions=popular)
    if not expected:
        with pytest.raises(CtrlRecError, match=r"none of .* users is left"):
            prepare(settings_, folder / "cache", uncut, all_writable)
        return
    assert titles(prepare(settings_, folder / "cache", uncut, all_writable)) == expected


def _plain(rows, users, popular):
    ordered = sorted(rows, key=lambda row: row[2])
    kept = list(dict.fromkeys((user, item) for user, item, _ in ordered))
    while True:
        of_user, of_item = Counter(user for user, _ in kept), Counter(item for _, item in kept)
        good = [(user, item) for user, item in kept if of_user[user] >= users and of_item[item] >= popular]
        if len(good) == len(kept):
            break
        kept = good
    names = dict.fromkeys(user for user, _, _ in rows)
    result = {user: [f"Title {item[1:]}" for owner, item in kept if owner == user] for user in names}
    return {user: row for user, row in result.items() if row}


def test_users_with_two_interactions_are_dropped_and_counted(load, tmp_path):
    rows = [("a", f"i{n}", n) for n in range(3)] + [("b", "i0", 1), ("b", "i1", 2)]
    records(tmp_path / "in", rows, items(3))
    prepared = load("records")
    assert prepared.sequences.users == ("a",)
    assert prepared.report["k_core"]["short_users"] == 1


def test_a_k_core_that_leaves_nobody_says_what_to_lower(load, tmp_path):
    records(tmp_path / "in", [("a", f"i{n}", n) for n in range(3)], items(3))
    with pytest.raises(CtrlRecError, match=r"none of 1 users is left .*lower dataset\.min_user_interactions"):
        load("records", min_user_interactions=25)


def test_path_target_is_the_deepest_category_even_after_two_paths_were_joined():
    assert target_categories([("A", "A, B", "A, B, C", "D", "D, E")], flat=False) == ["A, B, C"]
    assert target_categories([("A", "A, A very long name"), ("A", "A, B", "A, B, C")], flat=False)[1] == "A, B, C"
    assert target_categories([("Hand, Foot & Nail", "Hand, Foot & Nail, Oil")], flat=False) == [
        "Hand, Foot & Nail, Oil"
    ]


def test_flat_target_is_the_rarest_of_enough_items_with_ties_by_name_else_the_commonest():
    many = [("Wide", "B", "A")] * 10 + [("Wide",)] * 5
    assert target_categories([*many, ("Wide", "Rare")], flat=True)[0] == "A"
    assert target_categories([*many, ("Wide", "Rare")], flat=True)[-1] == "Wide"
    assert target_categories([("X", "Y"), ("Y",)], flat=True) == ["Y", "Y"]


@pytest.mark.parametrize(
    ("categories", "path"),
    [
        ([["A", "A, B"], ["C"]], True),
        ([["A"], ["B"]], False),
        ([["A", "A, B"], ["A", "B"]], False),
        ([["Hand, Foot", "Hand, Foot, Oil"]], True),
    ],
)
def test_auto_tells_paths_from_flat_categories(categories, path):
    assert is_path(categories) is path


def test_auto_sees_paths_although_merged_items_break_the_chain(load, tmp_path):
    metadata = [
        json.dumps({"item": f"i{n}", "title": f"Title {n % 3}", "categories": [root, f"{root}, Deep"]})
        for n, root in enumerate("ABCD")
    ]
    records(tmp_path / "in", [("a", f"i{n}", n) for n in range(3)], metadata)
    prepared = load("records")
    assert prepared.report["kept"]["categories"]["kind"] == "path"
    assert prepared.catalogue.categories[0] == ("A", "A, Deep", "D", "D, Deep")
    assert load("records", categories=CategoryKind.flat).report["kept"]["categories"]["kind"] == "flat"


def test_more_categories_than_memory_holds_are_refused(load, tmp_path, monkeypatch):
    records(tmp_path / "in", [("a", f"i{n}", n) for n in range(5)], items(5))
    catalogue = load("records").catalogue
    monkeypatch.setattr(catalogue_module, "_MOST_MEMBERSHIPS", 4)
    assert catalogue.category_sizes.tolist() == [5]
    with pytest.raises(CtrlRecError, match=r"1 categories of 5 items are too many; raise dataset\.min_item_inter"):
        _ = catalogue.membership


def test_files_of_a_result_survive_the_round_trip(load, tmp_path):
    records(tmp_path / "in", [("a", "i2", 1), ("a", "i0", 2), ("a", "i1", 3)], items(3, "Café, \u05d0"))
    prepared = load("records")
    prepared.catalogue.save(tmp_path / "catalogue.jsonl")
    prepared.sequences.save(tmp_path / "sequences.jsonl", prepared.catalogue)
    catalogue = Catalogue.load(tmp_path / "catalogue.jsonl")
    assert catalogue == prepared.catalogue
    again = Sequences.load(tmp_path / "sequences.jsonl", catalogue, 10)
    assert again.users == prepared.sequences.users
    assert np.array_equal(again.items, prepared.sequences.items)
    assert np.array_equal(again.offsets, prepared.sequences.offsets)
    assert json.loads((tmp_path / "sequences.jsonl").read_text())["items"] == ["Title 2", "Title 0", "Title 1"]


def test_broken_results_name_file_and_line(tmp_path):
    lines = ['{"item": "a", "title": "A", "categories": ["C"], "target_category": "C", "interactions": 1}', "{"]
    path = write(tmp_path / "catalogue.jsonl", lines)
    with pytest.raises(CtrlRecError, match=r"catalogue\.jsonl:2"):
        Catalogue.load(path)
    write(path, lines[:1])
    sequences = write(tmp_path / "sequences.jsonl", ['{"user": "u", "items": ["A", "A", "Gone"]}'])
    with pytest.raises(CtrlRecError, match=r"sequences\.jsonl:1.*Gone"):
        Sequences.load(sequences, Catalogue.load(path), 10)


def test_parsed_logs_are_reused_for_the_same_content_and_only_for_it(load, tmp_path, monkeypatch):
    rows = [("a", f"i{n}", n) for n in range(3)]
    records(tmp_path / "in", rows, items(3))
    first = read_raw(config("records", tmp_path / "in"), tmp_path / "cache")
    digest = source_digest(config("records", tmp_path / "in"))
    monkeypatch.setattr("ctrlrec.data.raw.clean_items", lambda *_: pytest.fail("parsed again"))
    again = read_raw(config("records", tmp_path / "in", min_user_interactions=7), tmp_path / "cache")
    assert again.items.equals(first.items)
    assert again.report == first.report
    monkeypatch.undo()
    records(tmp_path / "in", [*rows, ("b", "i0", 1)], items(3))
    assert len(read_raw(config("records", tmp_path / "in"), tmp_path / "cache").interactions) == 4
    assert source_digest(config("records", tmp_path / "in")) != digest


def test_order_of_unrelated_rows_does_not_change_any_sequence(load, tmp_path):
    rows = [(f"u{user}", f"i{item}", 100 * user + item) for user in range(6) for item in range(5)]
    records(tmp_path / "in", rows, items(5))
    before = titles(load("records"))
    random.Random(0).shuffle(rows)
    records(tmp_path / "in", rows, items(5))
    assert titles(load("records")) == before
