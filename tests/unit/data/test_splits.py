"""What each split lets into training, and what validation and test ask for."""

import itertools
import json
import random

import numpy as np
import pytest
from dataset_files import config, items, records, titles

from ctrlrec.config.schema import Split
from ctrlrec.data import card
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.data.splits import cuts
from ctrlrec.errors import CtrlRecError
from ctrlrec.teacher.module import Windows

BY_TIME = {"split": Split.global_time, "validation_share": 0.2, "test_share": 0.2}


def world(seed: int = 0, users: int = 30, count: int = 12) -> list[tuple[str, str, int]]:
    """Users who join and leave at different times; timestamps are seconds of 2020."""
    rng = random.Random(seed)
    rows = []
    for user in range(users):
        start, several = rng.randrange(800), rng.randint(2, count)
        for place, item in enumerate(rng.sample(range(count), several)):
            rows.append((f"u{user}", f"i{item}", 1_577_836_800 + 60 * (start + place * rng.randint(1, 40))))
    rng.shuffle(rows)
    return rows


def by_hand(rows, share, held_out, users_core=1, items_core=1):
    """The parts of every user by plain loops: (training, validation, test) titles; None for what there is not."""
    ordered = sorted(rows, key=lambda row: row[2])
    times = [time for *_, time in ordered]
    first, second = times[int(len(rows) * (1 - held_out))], times[int(len(rows) * (1 - share))]
    train = [(user, item) for user, item, time in ordered if time < first]
    while True:
        good = [
            pair for pair in train
            if sum(user == pair[0] for user, _ in train) >= users_core
            and sum(item == pair[1] for _, item in train) >= items_core
        ]  # fmt: skip
        if len(good) == len(train):
            break
        train = good
    core, known = {user for user, _ in train}, {item for _, item in train}
    parts = {}
    for user in dict.fromkeys(user for user, *_ in rows):
        own = [(item, time) for owner, item, time in ordered if owner == user and item in known]
        mine = [item for item, time in own if time < first] if user in core else []
        between = [item for item, time in own if first <= time < second] if user in core else []
        before, after = [item for item, time in own if time < second], [item for item, time in own if time >= second]
        test = (before[-10:], after[0]) if before and after else None
        if user in core or test:
            parts[user] = (mine, (mine[-10:], between[0]) if between else None, test)
    return parts


@pytest.mark.parametrize(("users_core", "items_core"), [(1, 1), (4, 5)])
def test_time_splits_as_plain_loops_do(load, tmp_path, users_core, items_core):
    rows = world()
    records(tmp_path / "in", rows, items(12))
    prepared = load("records", min_user_interactions=users_core, min_item_interactions=items_core, **BY_TIME)
    sequences, ids = prepared.sequences, prepared.catalogue.items

    def held(which, user):
        if user not in (sequences.validated if which == "validation" else sequences.tested):
            return None
        history, target = getattr(sequences, which)(user)
        return [ids[item] for item in history], ids[target]

    found = {
        name: ([ids[item] for item in sequences.train(user)], held("validation", user), held("test", user))
        for user, name in enumerate(sequences.users)
    }
    expected = by_hand(rows, 0.2, 0.4, users_core, items_core)
    assert found == expected
    assert any(validation is None for _, validation, _ in expected.values()), "the world tries users without one"
    assert any(test is None for *_, test in expected.values())
    assert users_core == 1 or any(not train for train, *_ in expected.values()), "and users who are only tested"
    counts = [sum(ids[item] in train for train, *_ in expected.values()) for item in range(len(ids))]
    assert list(prepared.catalogue.interactions) == counts and min(counts) >= items_core


def test_nothing_later_than_the_cut_reaches_training(load, tmp_path):
    """Everything from the validation cut on is other items: catalogue, counts, training and windows stay."""
    rows = world()
    cut = sorted(time for *_, time in rows)[int(0.6 * len(rows))]
    records(tmp_path / "in", rows, items(24))
    before = load("records", min_item_interactions=3, attributes=["popularity"], most_popular=10, **BY_TIME)
    taken: dict[str, set[str]] = {}
    for user, item, _ in rows:
        taken.setdefault(user, set()).add(item)
    unused = {user: [f"i{item}" for item in range(24) if f"i{item}" not in taken[user]] for user in taken}
    other = [(user, item if time < cut else unused[user].pop(0), time) for user, item, time in rows]
    assert {row for row in other if row[2] < cut} == {row for row in rows if row[2] < cut} and other != rows
    records(tmp_path / "in", other, items(24))
    after = load("records", min_item_interactions=3, attributes=["popularity"], most_popular=10, **BY_TIME)
    assert after.catalogue == before.catalogue

    def training(prepared):
        return {
            name: prepared.sequences.train(user).tolist()
            for user, name in enumerate(prepared.sequences.users)
            if prepared.sequences.trained[user]
        }

    assert training(after) == training(before)
    windows = [
        sorted(Windows(prepared.sequences, 99, 8, seed=1, epoch=0).windows().tolist()) for prepared in (before, after)
    ]
    users = [(prepared.sequences.trained > 0).sum() for prepared in (before, after)]
    assert users[0] == users[1]
    # Users who are only tested shift the random offsets; the pairs that are learnt are the same.
    pairs = [sorted((a, b) for row in found for a, b in itertools.pairwise(row) if b != 99) for found in windows]
    assert pairs[0] == pairs[1]
    assert titles(after) != titles(before), "the perturbation reached validation or test"


def test_equal_times_lie_behind_the_cut_together(tmp_path):
    """Of 20 interactions 8 are of time 1, 8 of time 2 and 4 of time 3; both cuts asked for lie among equals."""
    times = np.repeat([1, 2, 3], [8, 8, 4])
    settings = config("records", tmp_path, **(BY_TIME | {"validation_share": 0.3, "test_share": 0.1}))
    assert cuts(times[::-1], settings) == (2, 3)
    assert cuts(np.arange(100), config("records", tmp_path, **BY_TIME)) == (60, 80)


def test_items_of_the_future_are_in_no_catalogue(load, tmp_path):
    rows = [(f"u{user}", f"i{item}", item) for user in range(4) for item in range(6)] + [
        ("u9", "i0", 5),
        ("u9", "i1", 9),
    ]
    records(tmp_path / "in", rows, items(6))
    with pytest.raises(CtrlRecError, match=r"no user has an item of the catalogue both before and after the val"):
        load("records", **BY_TIME)


def test_times_that_cannot_be_cut_are_refused(load, tmp_path):
    records(tmp_path / "in", [(f"u{user}", f"i{item}", 7) for user in range(4) for item in range(5)], items(5))
    with pytest.raises(CtrlRecError, match=r"20 interactions have too few different times to cut them twice; change"):
        load("records", **BY_TIME)
    assert len(load("records").sequences) == 4


def test_places_survive_the_file_and_the_default_split_writes_none(load, tmp_path):
    records(tmp_path / "in", world(), items(12))
    for settings, fields in ((BY_TIME, {"user", "items", "train", "validation", "test"}), ({}, {"user", "items"})):
        prepared = load("records", **settings)
        path = tmp_path / "sequences.jsonl"
        prepared.catalogue.save(tmp_path / "catalogue.jsonl")
        prepared.sequences.save(path, prepared.catalogue)
        again = Sequences.load(path, Catalogue.load(tmp_path / "catalogue.jsonl"), 10)
        assert json.loads(path.read_text().splitlines()[0]).keys() == fields
        assert np.array_equal(again.trained, prepared.sequences.trained)
        assert np.array_equal(again.tested, prepared.sequences.tested)
        assert np.array_equal(again.validated, prepared.sequences.validated)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, '{"user": "x", "items": [], "train": 0, "validation": null, "test": null}']))
    with pytest.raises(CtrlRecError, match=r"sequences\.jsonl:1: no train, validation, test, which later lines have"):
        Sequences.load(path, prepared.catalogue, 10)


def test_the_card_names_the_cuts_and_what_they_leave(load, tmp_path):
    records(tmp_path / "in", world(), items(12))
    report = load("records", min_user_interactions=4, min_item_interactions=5, **BY_TIME).report
    split = report["split"]
    assert report["dataset"] == "records-global_time"
    assert split["validation_cut"].startswith("2020-01-01 ") and split["validation_cut"] < split["test_cut"]
    assert sum(split["interactions"].values()) == report["read"]["interactions"]
    text = card.markdown(report)
    assert f"validation from {split['validation_cut']} on" in text and "k-core of training" in text
    assert "split" not in load("records").report
