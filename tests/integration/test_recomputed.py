"""Rewards, metrics and labels of a run, computed again from its files by what is written about the method."""

import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import by_the_spec
import pytest
import tiny_run
from answering import Given
from omegaconf import OmegaConf
from scipy.stats import binomtest

from ctrlrec.config.compose import compose, validate
from ctrlrec.config.schema import Config
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.evaluation.answering import predictions
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.evaluation.scoring import score
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.backbone import load_tokenizer
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rewards.reward import Reward
from ctrlrec.rewards.trl import ControlReward
from ctrlrec.rl import rollout
from ctrlrec.teacher.ranker import Ranker


@pytest.fixture(scope="module")
def catalogue(sweep) -> by_the_spec.Catalogue:
    return by_the_spec.Catalogue(tiny_run.read_lines(sweep.result("data") / "catalogue.jsonl"))


@pytest.fixture(scope="module")
def users(sweep) -> dict[str, list[str]]:
    rows = tiny_run.read_lines(sweep.result("data") / "sequences.jsonl")
    return {row["user"]: row["items"] for row in rows}


# ---------------------------------------------------------------------------------------------------------------- data


def test_sequences_are_the_interactions_in_time_order(sweep, users) -> None:
    titles = {row["item"]: row["title"] for row in tiny_run.read_lines(sweep.records / "items.jsonl")}
    lines = (sweep.records / "interactions.csv").read_text().splitlines()[1:]
    found = defaultdict(list)
    for user, item, _ in sorted((line.split(",") for line in lines), key=lambda row: int(row[2])):
        found[user].append(titles[item])
    assert found == users


def test_the_catalogue_counts_training_interactions_and_names_target_categories(sweep, users) -> None:
    rows = tiny_run.read_lines(sweep.result("data") / "catalogue.jsonl")
    counts = Counter(title for items in users.values() for title in items[:-2])
    sizes = Counter(category for row in rows for category in row["categories"])
    assert len({row["title"] for row in rows}) == len(rows) == 40
    for row in rows:
        assert row["interactions"] == counts[row["title"]]
        large = [category for category in row["categories"] if sizes[category] >= 10]
        if large:
            assert sizes[row["target_category"]] == min(sizes[category] for category in large)
        assert row["target_category"] in row["categories"]


# -------------------------------------------------------------------------------------------------------------- labels


def test_training_windows_never_reach_the_last_two_items(sweep, users) -> None:
    for stage, name in (("instructions", "instructions.jsonl"), ("rl", "rollouts.jsonl")):
        rows = [row for row in tiny_run.read_lines(sweep.result(stage) / name) if row["user"] is not None]
        assert rows
        for row in rows:
            assert by_the_spec.is_window(row["history"], row["target"], users[row["user"]][:-2]), row


def test_validation_asks_for_the_second_last_item(sweep, users) -> None:
    rows = tiny_run.read_lines(sweep.result("instructions") / "validation.jsonl")
    kinds = Counter(row["task"] for row in rows)
    assert kinds == dict.fromkeys(("sequential", "category_positive", "category_negative", "proportion_about"), 8)
    for row in rows:
        assert row["target"] == users[row["user"]][-2]
        assert row["history"] == users[row["user"]][:-2][-len(row["history"]) :] and len(row["history"]) <= 10
        assert row["task"] != "proportion_about" or row["proportion"] == 50


def test_labels_follow_the_rules(sweep, catalogue) -> None:
    for name in ("instructions.jsonl", "validation.jsonl"):
        for row in tiny_run.read_lines(sweep.result("instructions") / name):
            labels, ranks, task = row["labels"], row["label_ranks"], row["task"]
            if task == "chat":
                assert labels == ranks == row["history"] == [] and row["category"] is row["candidates"] is None
                continue
            assert len(labels) == len(ranks) == row["item_count"] and 1 <= row["item_count"] <= 10
            assert len(set(labels)) == len(labels) and not set(labels) & set(row["history"])
            assert set(labels) <= catalogue.titles
            assert row["response"] == "\n".join(f"{place}. {title}" for place, title in enumerate(labels, 1))
            assert by_the_spec.obeys(row, catalogue), row
            assert all(f"'{title}'" in row["prompt"] for title in row["history"])
            assert row["category"] is None or row["category"] in row["prompt"]
            assert str(row["item_count"]) in row["prompt"]
            if row["candidates"] is not None:
                assert set(labels) <= set(row["candidates"]) and not set(row["candidates"]) & set(row["history"])
                assert all(title in row["prompt"] for title in row["candidates"])
            if task == "search":
                assert row["user"] is None and row["target"] is None and ranks == [None] * len(labels)
                continue
            assert labels[0] == row["target"]
            assert all(rank is not None for rank in ranks) and ranks[1:] == sorted(set(ranks[1:]))
            own = catalogue.categories[row["target"]]
            if task in ("category_positive", "proportion_about", "proportion_at_least"):
                assert row["category"] in own
            if task in ("category_negative", "proportion_at_most"):
                assert row["category"] not in own


def test_labels_are_the_teachers_best_that_fit(sweep, catalogue) -> None:
    """Sequential labels skip no rank but those of the ground truth."""
    rows = tiny_run.read_lines(sweep.result("instructions") / "instructions.jsonl")
    for row in rows:
        if row["task"] == "sequential":
            best = [rank for rank in range(len(row["labels"])) if rank != row["label_ranks"][0]]
            assert row["label_ranks"][1:] == best[: len(row["labels"]) - 1]


def test_an_epoch_has_the_counts_of_table_7(sweep, users) -> None:
    rows = tiny_run.read_lines(sweep.result("instructions") / "instructions.jsonl")
    counts = Counter(row["task"] for row in rows)
    people = len(users)
    assert counts["sequential"] == people
    assert counts["search"] == 40
    assert counts["category_positive"] + counts["category_negative"] == people
    assert counts["category_positive"] == counts["category_negative"]
    assert all(counts[f"proportion_{kind}"] == people // 3 for kind in ("at_most", "at_least", "about"))
    config = json.loads((sweep.result("instructions") / "provenance.json").read_text())["config"]
    assert counts["chat"] == round(config["instructions"]["chat_ratio"] * (len(rows) - counts["chat"]))


# ------------------------------------------------------------------------------------------------------------- rewards


def check_rewards(rows: list[dict], catalogue: by_the_spec.Catalogue, reading: str) -> None:
    for row in rows:
        written = len(row["titles"])
        assert written == len(row["items"]) == len(row["teacher_rank"])
        assert written == len(row["illegal"]) == len(row["item_reward"])
        for place, (title, item, illegal) in enumerate(zip(row["titles"], row["items"], row["illegal"], strict=True)):
            reasons = by_the_spec.reasons(row, place, catalogue)
            assert (illegal is None and not reasons) or illegal in reasons
            assert item == (title if title in catalogue.titles else None)
            assert (row["teacher_rank"][place] is None) == (item is None or item in row["history"])
        items, whole = by_the_spec.rewards(row, catalogue, reading)
        assert row["item_reward"] == pytest.approx(items, abs=1e-9)
        assert row["list_reward"] == pytest.approx(whole, abs=1e-9)
        places = row["reward_at"]
        assert len(places) == written + 1 and places == sorted(places) and places[-1] == row["tokens"] - 1
        assert not places[:-1] or places[0] >= 0


def test_rewards_of_a_run(sweep, catalogue) -> None:
    rows = tiny_run.read_lines(sweep.result("rl") / "rollouts.jsonl")
    assert Counter(row["iteration"] for row in rows) == dict.fromkeys(range(4), 6)
    assert {row["sample"] for row in rows} == {0, 1}
    for row in rows:
        assert 5 <= row["item_count"] <= 10
    check_rewards(rows, catalogue, "paper")


def settings_of(sweep, **evaluation: object) -> Config:
    """What the run was decided by, with other settings of its evaluation."""
    config = OmegaConf.create(json.loads((sweep.result("rl") / "provenance.json").read_text())["config"])
    config.evaluation.update(evaluation)
    return validate(config)


@pytest.fixture(scope="module")
def parts(sweep) -> tuple[InstructionBuilder, ChatFormat]:
    """Builder and chat format over the run's own catalogue, sequences, teacher and tokenizer."""
    config = settings_of(sweep)
    whole = Catalogue.load(sweep.result("data") / "catalogue.jsonl")
    sequences = Sequences.load(sweep.result("data") / "sequences.jsonl", whole, 10)
    chat_format = ChatFormat(load_tokenizer(sweep.result("data") / "tokenizer"), config.model)
    ranker = Ranker.load(sweep.result("teacher"))
    return InstructionBuilder(whole, sequences, ranker, config.instructions, chat_format.limit(), 3), chat_format


@pytest.mark.parametrize("reading", ["paper", "paper_literal", "released"])
def test_rewards_of_answers_good_and_bad(
    sweep, parts, catalogue, reading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The untrained model of a tiny run writes no titles; here answers come from labels, the rest is the real way."""
    builder, chat_format = parts
    rng, titles = random.Random(1), builder.catalogue.titles
    asked, tokens = [], []
    for task in ("sequential", "category", "proportion"):
        for example in builder.epoch(0, (task,)) + builder.epoch(1, (task,)):
            instruction = example.instruction
            names = [titles[item] for item in example.labels]
            text = tiny_run.answer_of(rng, names, [titles[item] for item in instruction.history], list(titles))
            asked.append(instruction)
            end = [chat_format.tokenizer.eos_token_id] if rng.random() < 0.8 else []
            tokens.append(chat_format.tokenizer(text, add_special_tokens=False)["input_ids"] + end)
    engine, reward = Given(chat_format, tokens), Reward(compose(f"reward={reading}").reward)
    answers = rollout.Sampler(engine, builder.catalogue, builder.ranker, reward)(engine.prompts(asked), 0.7)
    rows = [answer.record(0, 0, builder.catalogue) for answer in answers]
    check_rewards(rows, catalogue, reading)
    kinds = Counter(illegal for row in rows for illegal in row["illegal"])
    assert min(kinds[kind] for kind in (None, "nonexistent", "repeat", "history", "excess")) > 20
    assert {row["task"] for row in rows} == {
        "sequential", "category_positive", "category_negative", "proportion_at_most", "proportion_at_least",
        "proportion_about",
    }  # fmt: skip
    kept = {"item": [sum(row["item_reward"]) for row in rows], "list": [row["list_reward"] for row in rows]}
    for part, values in kept.items():  # the plug-in for TRL, on the rows as a file holds them
        function = ControlReward.from_run(sweep.result("instructions"), part=part, item=reading, list=reading)
        texts = [row["response"] for row in rows]
        assert function([[0]] * len(asked), texts, tokens, instruction=list(map(json.dumps, rows))) == pytest.approx(
            values, abs=1e-9
        )
    decode = chat_format.tokenizer.decode
    for row, ids in zip(rows, tokens, strict=True):
        lines = row["response"].split("\n")
        for count, place in enumerate(row["reward_at"][:-1], 1):
            line = "\n".join(lines[:count])
            assert decode(ids[: place + 1], skip_special_tokens=True).startswith(line)
            assert not decode(ids[:place], skip_special_tokens=True).startswith(line)


def test_placed_rewards_sum_to_items_and_ten_times_the_list(parts) -> None:
    from ctrlrec.rewards.credit import place

    placed = place([[0.5, -1.0], []], [2.5, -5.0], [[3, 7, 9], [4]], 10)
    assert placed.sum(dim=1).tolist() == pytest.approx([0.5 - 1.0 + 2.5, -5.0])
    assert placed[0, [3, 7, 9]].tolist() == [0.5, -1.0, 2.5] and placed[1, 4] == -5.0


# ------------------------------------------------------------------------------------------------------------- metrics


def check_metrics(rows: list[dict], written: dict, catalogue: by_the_spec.Catalogue) -> None:
    computed = by_the_spec.metrics(rows, catalogue)
    assert set(written["settings"]) == set(computed)
    for setting, cells in written["settings"].items():
        assert set(cells) == set(computed[setting]), setting
        for name, cell in cells.items():
            values = computed[setting][name]
            assert cell["n"] == len(values)
            assert cell["value"] == pytest.approx(sum(values) / len(values), abs=1e-9), (setting, name)
            if set(values) in ({0.0}, {1.0}) and name not in by_the_spec.TOGETHER:
                exact = binomtest(int(sum(values)), len(values)).proportion_ci(0.95, method="exact")
                assert (cell["low"], cell["high"]) == pytest.approx((exact.low, exact.high)), (setting, name)


def check_questions(rows: list[dict], catalogue: by_the_spec.Catalogue, users: dict[str, list[str]]) -> None:
    percents = {"at_most_20": 20, "about_30": 30, "at_least_30": 30}
    negative = {(row["user"]): row["category"] for row in rows if row["setting"] == "category_negative"}
    for row in rows:
        items = users[row["user"]]
        assert row["target"] == items[-1]
        assert row["history"] == items[:-1][-len(row["history"]) :] and 1 <= len(row["history"]) <= 10
        assert row["proportion"] == percents.get(row["setting"])
        assert row["item_count"] in (range(11, 16) if row["setting"] == "formatting" else (10,))
        if row["setting"] in ("category_positive", "about_30", "at_least_30"):
            assert row["category"] == catalogue.target_category[row["target"]]
        elif row["setting"] in ("category_negative", "at_most_20"):
            assert row["category"] not in catalogue.categories[row["target"]]
            assert row["category"] == negative[row["user"]]
        else:
            assert row["category"] is None


def check_matches(rows: list[dict], catalogue: by_the_spec.Catalogue) -> None:
    for row in rows:
        assert len(row["titles"]) == len(row["items"]) == len(row["teacher_rank"])
        for title, item, rank in zip(row["titles"], row["items"], row["teacher_rank"], strict=True):
            near = by_the_spec.nearest_titles(title, catalogue, 3)
            assert item in near if near else item is None
            assert (rank is None) == (item is None or item in row["history"])


@pytest.mark.parametrize("variant", ["v2", "full"])
def test_metrics_of_a_run(sweep, catalogue, users, variant: str) -> None:
    directory = sweep.result("evaluate", f"*-{variant}")
    rows = tiny_run.read_lines(directory / "predictions.jsonl")
    assert all(count <= 8 for count in Counter(row["setting"] for row in rows).values())
    check_questions(rows, catalogue, users)
    check_matches(rows, catalogue)
    check_metrics(rows, json.loads((directory / "metrics.json").read_text()), catalogue)


def test_metrics_of_answers_good_and_bad(parts, catalogue, users, sweep) -> None:
    """As the run's own evaluation, with answers that name real titles."""
    builder, _ = parts
    config = settings_of(sweep, users=None)
    evaluation = config.evaluation
    rng, titles = random.Random(2), list(builder.catalogue.titles)

    def answer(asked) -> list[str]:
        texts = []
        for instruction in asked:
            wanted = [titles[instruction.target], *rng.sample(titles, instruction.item_count)]
            rng.shuffle(wanted)
            shown = [titles[item] for item in instruction.history]
            texts.append(tiny_run.answer_of(rng, wanted[: instruction.item_count], shown, titles))
        return texts

    matcher = TitleMatcher(builder.catalogue.titles, evaluation.match_max_edits)
    rows = [row for setting in evaluation.settings for row in predictions(setting, config, builder, answer, matcher)]
    check_questions(rows, catalogue, users)
    check_matches(rows, catalogue)
    written = score(rows, builder.catalogue, 200, evaluation.confidence, 0)
    check_metrics(rows, written, catalogue)
    for setting, metric in (("sequential", "HR@10"), ("category_positive", "TCP@10"), ("about_30", "CPA")):
        assert 0 < written["settings"][setting][metric]["value"] < 1
    for setting, metric in (("category_negative", "TCP@10"), ("at_most_20", "CPA")):
        cells = written["settings"][setting]
        assert cells[metric]["value"] != cells[f"{metric}_literal"]["value"]  # some answers are too short


def test_the_negative_category_is_the_largest_of_the_teachers_ten_best(parts, sweep, catalogue, users) -> None:
    builder, _ = parts
    whole = builder.catalogue
    rows = tiny_run.read_lines(sweep.result("evaluate", "*-v2") / "predictions.jsonl")
    for row in rows:
        if row["setting"] == "category_negative":
            (best,) = builder.ranker.top_k([[whole.title_index[title] for title in users[row["user"]][:-1][-10:]]], 10)
            own = catalogue.categories[row["target"]]
            shares = Counter(name for item in best for name in whole.categories[item] if name not in own)
            if shares:
                assert shares[row["category"]] == max(shares.values())


def test_the_same_users_are_asked_the_same_in_every_row(sweep) -> None:
    asked = []
    for variant in ("v2", "full"):
        rows = tiny_run.read_lines(sweep.result("evaluate", f"*-{variant}") / "predictions.jsonl")
        asked.append([[row[name] for name in ("setting", "user", "prompt", "target", "item_count")] for row in rows])
    assert asked[0] == asked[1]


def test_no_file_of_training_holds_a_test_item_as_an_answer(sweep, users, tmp_path: Path) -> None:
    """A user's test item may be a label for others; as a target after the user's own history it never is."""
    rows = tiny_run.read_lines(sweep.result("instructions") / "instructions.jsonl")
    assert not [row for row in rows if row["user"] is not None and row["target"] in users[row["user"]][-2:]]
