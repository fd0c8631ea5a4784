"""Blends as they are drawn, worded and labelled."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from ctrlrec.config.compose import compose
from ctrlrec.config.schema import CategorySampling
from ctrlrec.controls.blends import UNSEEN, is_unseen
from ctrlrec.controls.instruction import Condition, Example
from ctrlrec.controls.registry import CONTROLS, kind_of
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.settings import questions
from ctrlrec.instructions import templates
from ctrlrec.instructions.blends import largest_lacked
from ctrlrec.instructions.labels import negative_categories

FAMILIES = ("category", "proportion")


def blends_of(examples: list[Example]) -> list[Example]:
    return [example for example in examples if example.instruction.task == "blend"]


def obeys(example: Example, catalogue: Catalogue) -> bool:
    k = example.instruction.item_count
    return all(
        sum(each.category in catalogue.categories[item] for item in example.labels)
        in each.control.allowed(k, each.proportion)
        for each in example.instruction.conditions
    )


@pytest.fixture(scope="module")
def many(make_builder) -> list[Example]:
    builder = make_builder(blend_share=1.0)
    return [example for epoch in range(12) for example in builder.epoch(epoch, FAMILIES)]


def test_a_blend_is_labelled_by_the_ground_truth_and_a_list_that_meets_all(many, catalogue, ranker) -> None:
    blended = blends_of(many)
    assert len(blended) > 400
    for example in blended:
        asked = example.instruction
        assert 2 <= len(asked.conditions) <= 4 and asked.category is asked.proportion is asked.candidates is None
        assert len({each.category for each in asked.conditions}) == len(asked.conditions)
        assert len(set(example.labels)) == len(example.labels) == asked.item_count
        assert example.labels[0] == asked.target and not set(example.labels) & set(asked.history)
        assert obeys(example, catalogue)
        (ranks,) = ranker.ranks([asked.history], [example.labels])
        assert list(example.label_ranks) == ranks and ranks[1:] == sorted(ranks[1:])
        own = set(catalogue.categories[asked.target])
        for each in asked.conditions:
            assert (each.category in own) is not each.control.opposes
            assert each.proportion is None or each.proportion % 10 == 0
    sizes = Counter(len(example.instruction.conditions) for example in blended)
    assert min(sizes[count] for count in (2, 3, 4)) > 20


def test_kinds_that_evaluation_keeps_unseen_are_never_trained_together(many) -> None:
    kinds = [{kind_of(each.control) for each in example.instruction.conditions} for example in many]
    assert not any(is_unseen(found) for found in kinds)
    assert set.union(*kinds) == set(CONTROLS)
    assert is_unseen(("negative", "at_least", "about")) and not is_unseen(("about", "at_least"))


def test_what_no_list_meets_stays_the_one_condition_it_was(make_builder) -> None:
    """Samples that do not become blends are those of a row without blends, to the letter."""
    plain, blended = make_builder(), make_builder(blend_share=0.5)
    mixed = blended.epoch(3, FAMILIES)
    kept = [example for example in mixed if example.instruction.task != "blend"]
    assert len(kept) < len(mixed) == len(plain.epoch(3, FAMILIES))
    assert set(kept) <= set(plain.epoch(3, FAMILIES))
    assert 0.35 < len(blends_of(mixed)) / len(mixed) < 0.65


def test_at_share_0_nothing_is_a_blend(make_builder) -> None:
    assert not blends_of(make_builder().epoch(0, FAMILIES))


def test_a_blend_holds_the_condition_that_it_stands_for(make_builder) -> None:
    """Kind and percent are those of the sample, so that thirds and halves of Table 7 hold within blends."""
    plain, blended = make_builder().epoch(1, FAMILIES), make_builder(blend_share=1.0).epoch(1, FAMILIES)
    for single, blend in zip(plain, blended, strict=True):
        (own,) = single.instruction.conditions
        assert blend.instruction.item_count >= single.instruction.item_count
        assert any(
            each.control is own.control and each.proportion == own.proportion for each in blend.instruction.conditions
        )


def test_draws_hang_on_seed_epoch_user_and_task_alone(make_builder) -> None:
    one, other = make_builder(blend_share=1.0), make_builder(blend_share=1.0)
    other.ranker.at_once, before = 3, other.ranker.at_once
    try:
        assert one.epoch(2, FAMILIES) == other.epoch(2, FAMILIES)
    finally:
        other.ranker.at_once = before
    assert one.epoch(2, FAMILIES) != make_builder(blend_share=1.0, seed=4).epoch(2, FAMILIES)
    alone = one.epoch(2, ("proportion",))
    assert alone == one.epoch(2, FAMILIES)[1::2]


def test_rollouts_are_blends_too(make_builder) -> None:
    asked = make_builder(blend_share=0.5).rollout_prompts(0, 90, (6, 8))
    assert 20 < sum(each.task == "blend" for each in asked) < 45
    assert all(each.item_count in (6, 7, 8) for each in asked if each.task == "blend")


def test_uniform_categories_keep_the_ground_truth_where_it_fits(make_builder, catalogue) -> None:
    builder = make_builder(blend_share=1.0, category_sampling=CategorySampling.uniform)
    blended = blends_of([example for epoch in range(4) for example in builder.epoch(epoch, FAMILIES)])
    led = [example.labels[0] == example.instruction.target for example in blended]
    assert 0.2 < sum(led) / len(led) < 1
    for example in blended:
        assert obeys(example, catalogue)
        own = set(catalogue.categories[example.instruction.target])
        violated = any(
            (kind_of(each.control) == "positive" and each.category not in own)
            or (kind_of(each.control) == "negative" and each.category in own)
            for each in example.instruction.conditions
        )
        assert not violated or example.instruction.target not in example.labels


def test_unwanted_categories_come_by_their_share_of_the_teachers_best(catalogue) -> None:
    rng = np.random.default_rng(2)
    for target in range(0, 40, 7):
        scores = torch.from_numpy(rng.normal(size=(1, len(catalogue))))
        order = scores[0].argsort(descending=True).numpy()
        found = list(largest_lacked(catalogue, order, target, 10))
        assert found[0] == negative_categories(catalogue, scores, [target], [10])[0]
        assert set(found) == set(catalogue.category_names) - set(catalogue.categories[target])
        shares = [sum(name in catalogue.categories[item] for item in order[:10]) for name in found]
        assert shares == sorted(shares, reverse=True)
    assert list(islice(largest_lacked(catalogue, order, target, 1), 9)) == list(
        largest_lacked(catalogue, order, target, 1)
    )


# ---------------------------------------------------------------------- words


def condition(kind: str, category: str, percent: int | None = None) -> Condition:
    return Condition(CONTROLS[kind], category, percent)


def test_a_blend_says_one_sentence_for_each_condition_in_the_drawn_order() -> None:
    blend = [(condition("at_most", "Drama", 30), 0), (condition("positive", "Comedy"), 1)]
    assert templates.prompt("blend", 5, ["A", "B"], blend=blend) == (
        "You are an expert recommender engine. You need to generate a recommendation list simultaneously considering "
        "user's preference inferred from historical interactions and user's intention. If user's preference conflicts "
        "with his intention, you should comply with his intention. Here are user's historical interactions: 'A', 'B', "
        "and user's intention: In the recommendation list, the proportion of 'Drama' items should be less than or "
        "equal to 30%. Please recommend some 'Comedy' items. You need to generate a recommendation list with 5 "
        "different items."
    )


def test_a_blend_of_proportions_is_worded_as_listing_3() -> None:
    blend = [(condition("about", "Drama", 30), 0), (condition("at_least", "Comedy", 50), 0)]
    said = templates.prompt("blend", 5, ["A"], blend=blend)
    single = templates.prompt("proportion_about", 5, ["A"], "Drama", 30)
    assert said == single.replace("30%.", "30%. " + CONTROLS["at_least"].sentence("Comedy", 50, 0) + ".")


def test_one_condition_as_a_blend_is_worded_as_alone() -> None:
    for kind, control in CONTROLS.items():
        percent = 40 if control.takes_percent else None
        alone = templates.prompt(control.task, 5, ["A"], "Drama", percent, phrasing=3)
        assert templates.prompt("blend", 5, ["A"], blend=[(condition(kind, "Drama", percent), 3)]) == alone


def test_the_bound_on_prompt_lengths_holds_for_blends(make_builder, many) -> None:
    builder = make_builder(blend_share=1.0)
    overhead = builder._overhead("blend", False, "")
    for example in blends_of(many)[:100]:
        titles = int(builder._quoted_tokens[list(example.instruction.history)].sum())
        assert builder.limit.prompt_tokens(example.instruction.messages) <= overhead + titles


def test_a_long_history_is_cut_and_the_labels_follow_it(make_builder, catalogue, chat_format) -> None:
    from dataclasses import replace

    short = replace(chat_format.limit(), max_prompt=200)
    examples = blends_of(make_builder(blend_share=1.0, limit=short).epoch(0, FAMILIES))
    whole = blends_of(make_builder(blend_share=1.0).epoch(0, FAMILIES))
    assert sum(len(each.instruction.history) for each in examples) < sum(
        len(each.instruction.history) for each in whole
    )
    for example in examples:
        assert short.prompt_tokens(example.instruction.messages) <= 200 and obeys(example, catalogue)


# ---------------------------------------------------------------------- evaluation


@pytest.mark.parametrize(("setting", "count"), [("blend_2", 2), ("blend_3", 3), ("blend_unseen", 2)])
def test_questions_of_blends(make_builder, catalogue, setting: str, count: int) -> None:
    builder = make_builder()
    asked = questions(setting, builder, compose().evaluation, None)
    assert len(asked) > 15
    for example in asked:
        conditions = example.instruction.conditions
        kinds = [kind_of(each.control) for each in conditions]
        assert len(kinds) == count and is_unseen(kinds) is (setting == "blend_unseen")
        assert setting != "blend_unseen" or {*kinds} in [{*pair} for pair in UNSEEN]
        wanted = [each.category for each in conditions if not each.control.opposes]
        target = example.instruction.target
        assert wanted[:1] in ([], [catalogue.target_categories[target]])
        for each in conditions:
            assert each.proportion == {"at_most": 20, "about": 30, "at_least": 30}.get(kind_of(each.control))
        assert len(example.labels) == 10 and obeys(example, catalogue)
        assert set(example.labels).isdisjoint(example.instruction.history)
    again = questions(setting, make_builder(blend_share=0.7, candidate_share=0.9), compose().evaluation, None)
    assert [example.instruction for example in asked] == [example.instruction for example in again]


def test_settings_of_blends_ask_different_questions(make_builder) -> None:
    builder = make_builder()
    two, unseen = (questions(name, builder, compose().evaluation, None) for name in ("blend_2", "blend_unseen"))
    assert {example.instruction.prompt for example in two}.isdisjoint(example.instruction.prompt for example in unseen)
