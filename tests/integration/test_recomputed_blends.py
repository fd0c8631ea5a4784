"""Labels, rewards and metrics of blends, computed again from the files by what is written about the method."""

import json
import random
from collections import Counter
from pathlib import Path

import by_the_spec
import pytest
import tiny_run
from answering import Given
from omegaconf import OmegaConf
from tiny_run import answer_of

from ctrlrec.config.compose import compose, validate
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation import scoring as product_metrics
from ctrlrec.evaluation.answering import predictions
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.evaluation.settings import questions
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.rewards.reward import Reward
from ctrlrec.rewards.schemes import SCHEMES
from ctrlrec.rl import rollout
from ctrlrec.teacher.ranker import Ranker


@pytest.fixture(scope="module")
def output(sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished ``python -m ctrlrec variant=full_blend evaluation=blend``."""
    folder = tmp_path_factory.mktemp("blends")
    arguments = sweep.arguments(
        folder / "runs", evaluation="blend", evaluation__users="null", rl__iterations=6, generation__max_new_tokens=100,
        rl__prompts=8,
    )  # fmt: skip
    tiny_run.run(["variant=full_blend", *arguments], folder / "log")
    return folder / "runs"


@pytest.fixture(scope="module")
def catalogue(output: Path) -> by_the_spec.Catalogue:
    return by_the_spec.Catalogue(tiny_run.read_lines(tiny_run.only(output / "data") / "catalogue.jsonl"))


@pytest.fixture(scope="module")
def scores_after(output: Path):
    """Scores of every item outside a history, by title; the teacher is the only part that files do not hold as text."""
    known = Catalogue.load(tiny_run.only(output / "data") / "catalogue.jsonl")
    ranker = Ranker.load(tiny_run.only(output / "teacher"))

    def scores(history: list[str]) -> dict[str, float]:
        (row,) = ranker.scores([[known.title_index[title] for title in history]]).tolist()
        return {title: row[item] for item, title in enumerate(known.titles) if title not in history}

    return scores


def check_best(row: dict, listed: list[str], ranks: list[int], first: str | None, catalogue, scores) -> None:
    assert len(set(listed)) == len(listed) == row["item_count"] and not set(listed) & set(row["history"])
    assert by_the_spec.meets_all(row, listed, catalogue)
    rest = listed if first is None else listed[1:]
    total = sum(scores[title] for title in rest)
    assert total == pytest.approx(by_the_spec.best_sum(row, scores, catalogue, first), abs=1e-6)
    order = sorted(scores, key=lambda title: -scores[title])
    assert [order.index(title) for title in listed] == ranks
    assert [order.index(title) for title in rest] == sorted(order.index(title) for title in rest)


def test_labels_are_the_best_list_behind_the_ground_truth(output: Path, catalogue, scores_after) -> None:
    rows = tiny_run.read_lines(tiny_run.only(output / "instructions") / "instructions.jsonl")
    blends = [row for row in rows if row["task"] == "blend"]
    assert 0.3 < len(blends) / sum(row["task"].startswith(("category", "proportion", "blend")) for row in rows) < 0.7
    for row in blends:
        assert row["category"] is row["proportion"] is row["candidates"] is None and 2 <= len(row["constraints"]) <= 4
        assert row["labels"][0] == row["target"]
        assert row["response"] == "\n".join(f"{place}. {title}" for place, title in enumerate(row["labels"], 1))
        check_best(row, row["labels"], row["label_ranks"], row["target"], catalogue, scores_after(row["history"]))
        places = [row["prompt"].index(f"'{each['category']}'") for each in row["constraints"]]
        assert len(set(places)) == len(places)
    for row in rows:
        if row["task"] in ("sequential", "search", "chat"):
            assert row["constraints"] == []
        elif row["task"] != "blend":
            (only,) = row["constraints"]
            assert by_the_spec.TASKS[only["kind"]] == row["task"]
            assert (only["category"], only["proportion"]) == (row["category"], row["proportion"])


def test_rewards_of_blends(output: Path, catalogue) -> None:
    rows = tiny_run.read_lines(tiny_run.only(output / "rl") / "rollouts.jsonl")
    blends = [row for row in rows if row["task"] == "blend"]
    assert len(blends) > 15
    for row in blends:
        items, whole = by_the_spec.blend_rewards(row, catalogue)
        assert row["item_reward"] == pytest.approx(items, abs=1e-9)
        assert row["list_reward"] == pytest.approx(whole, abs=1e-9)


def test_questions_are_feasible_and_the_best_list_is_the_best(output: Path, catalogue, scores_after) -> None:
    rows = tiny_run.read_lines(tiny_run.only(output / "evaluate") / "predictions.jsonl")
    counts = Counter(row["setting"] for row in rows)
    assert min(counts[f"blend_{name}"] for name in ("2", "3", "unseen")) > 30
    unseen = [{"positive", "at_most"}, {"negative", "about"}]
    trained = tiny_run.read_lines(tiny_run.only(output / "instructions") / "instructions.jsonl")
    for row in trained:
        assert not any(pair <= {each["kind"] for each in row["constraints"]} for pair in unseen)
    for row in rows:
        if not row["setting"].startswith("blend"):
            assert len(row["constraints"]) == (row["category"] is not None)
            continue
        assert row["category"] is row["proportion"] is None
        kinds = [each["kind"] for each in row["constraints"]]
        assert len(kinds) == (3 if row["setting"] == "blend_3" else 2)
        assert (set(kinds) in unseen) is (row["setting"] == "blend_unseen")
        check_best(row, row["best"], row["best_rank"], None, catalogue, scores_after(row["history"]))


def test_tables_show_blends(output: Path) -> None:
    folder = output / "tables" / "records-llama_mini-demo"
    assert r"3 conditions all\_satisfied (%)" in (folder / "table8.md").read_text(encoding="utf-8")
    assert r"blend\_unseen" in (folder / "summary.md").read_text(encoding="utf-8")
    assert "I1 and I2 as blends" in (folder / "table7.md").read_text(encoding="utf-8")


def test_metrics_of_blends(output: Path, catalogue) -> None:
    directory = tiny_run.only(output / "evaluate")
    written = json.loads((directory / "metrics.json").read_text())["settings"]
    computed = by_the_spec.metrics(tiny_run.read_lines(directory / "predictions.jsonl"), catalogue)
    for setting in ("blend_2", "blend_3", "blend_unseen"):
        wanted = {"satisfied", "all_satisfied", "violation", "regret", "satisfied_free", "HR@10", "NDCG@10"}
        assert wanted <= set(written[setting])
        for name, cell in written[setting].items():
            values = computed[setting][name]
            assert cell["n"] == len(values)
            assert cell["value"] == pytest.approx(sum(values) / len(values), abs=1e-9), (setting, name)


# The model of a tiny run hardly writes titles. Below, answers come from the best lists, spoilt here and there.


@pytest.fixture(scope="module")
def parts(output: Path):
    """Configuration, builder and chat format over the run's own catalogue, teacher and tokenizer."""
    config = validate(
        OmegaConf.create(json.loads((tiny_run.only(output / "evaluate") / "provenance.json").read_text())["config"])
    )
    return config, *load_builder(config, {name: tiny_run.only(output / name) for name in ("data", "teacher")})


@pytest.mark.parametrize("reading", sorted(SCHEMES))
def test_rewards_of_answers_good_and_bad(parts, catalogue, reading: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, builder, chat_format = parts
    rng, titles = random.Random(1), list(builder.catalogue.titles)
    examples = [example for epoch in range(3) for example in builder.epoch(epoch, ("category", "proportion"))]
    examples = [example for example in examples if example.instruction.task == "blend"]
    tokens = []
    for example in examples:
        shown = [titles[item] for item in example.instruction.history]
        text = answer_of(rng, [titles[item] for item in example.labels], shown, titles)
        tokens.append(chat_format.tokenizer(text, add_special_tokens=False)["input_ids"])
    engine, reward = Given(chat_format, tokens), Reward(compose(f"reward={reading}").reward)
    prompts = engine.prompts([example.instruction for example in examples])
    answers = rollout.Sampler(engine, builder.catalogue, builder.ranker, reward)(prompts, temperature=0.7)
    assert len(answers) > 100
    for answer in answers:
        row = answer.record(0, 0, builder.catalogue)
        items, whole = by_the_spec.blend_rewards(row, catalogue, reading)
        assert row["item_reward"] == pytest.approx(items, abs=1e-9)
        assert row["list_reward"] == pytest.approx(whole, abs=1e-9)


def test_metrics_of_answers_good_and_bad(parts, catalogue) -> None:
    config, builder, _ = parts
    rng, titles = random.Random(2), list(builder.catalogue.titles)

    settings = ("sequential", "blend_2", "blend_3", "blend_unseen")
    examples = [example for name in settings for example in questions(name, builder, config.evaluation, None)]
    best = {example.instruction.prompt: [titles[item] for item in example.labels] for example in examples}

    def answer(asked) -> list[str]:
        texts = []
        for instruction in asked:
            wanted = best[instruction.prompt]
            spoilt = answer_of(rng, wanted, [titles[item] for item in instruction.history], titles)
            good = "\n".join(f"{place}. {title}" for place, title in enumerate(wanted, 1))
            texts.append(rng.choice((good, spoilt, spoilt, "")))
        return texts

    matcher = TitleMatcher(builder.catalogue.titles, config.evaluation.match_max_edits)
    rows = [row for name in settings for row in predictions(name, config, builder, answer, matcher)]
    written = product_metrics.score(rows, builder.catalogue, 50, 0.95, 0)["settings"]
    computed = by_the_spec.metrics(rows, catalogue)
    for setting, cells in written.items():
        assert set(cells) == set(computed[setting])
        for name, cell in cells.items():
            values = computed[setting][name]
            assert cell["value"] == pytest.approx(sum(values) / len(values), abs=1e-9), (setting, name)
    assert 0 < written["blend_2"]["all_satisfied"]["value"] < written["blend_2"]["satisfied"]["value"] < 1
