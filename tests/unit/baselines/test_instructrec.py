"""Instructions and beams of the row instructrec."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from ctrlrec.baselines.instructrec import KINDS, InstructRecInstructions, Kind, beam_lists
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.settings import SETTINGS
from ctrlrec.instructions.builder import InstructionBuilder, generator
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.parsing import written_items

FAMILIES = ("sequential", "category", "search")


@pytest.fixture
def make(builder: InstructionBuilder) -> Callable[..., InstructRecInstructions]:
    def made(**limit: Any) -> InstructRecInstructions:
        limits = replace(builder.limit, **limit)
        return InstructRecInstructions(
            builder.catalogue, builder.sequences, builder.ranker, builder.config, limits, builder.seed
        )

    return made


def test_the_kinds_are_the_grid_and_what_is_turned_around() -> None:
    assert len(KINDS) == len(set(KINDS)) == 35
    assert Counter(kind.family for kind in KINDS) == {"sequential": 9, "category": 17, "search": 9}


def test_every_kind_says_what_it_is_made_of(make: Callable[..., InstructRecInstructions]) -> None:
    builder = make()
    titles, target = builder.catalogue.titles, 18
    history = tuple(item for item in range(3, 9))
    answers = {}
    for kind in KINDS:
        known = history if kind.preference != "none" else ()  # search has no user
        example = builder._instruct(kind, "sequential", "u1", known, target, generator(0, 0, 1, "sequential"))
        asked, text = example.instruction, example.instruction.prompt
        assert (titles[history[0]] in text) == (kind.preference == "implicit")
        assert ("mostly enjoys" in text) == (kind.preference == "explicit")
        assert (asked.category is not None) == (kind.intention != "none")
        if asked.category is not None:
            assert f"'{asked.category}'" in text and asked.category in builder.catalogue.categories[target]
        if kind.form in ("pairwise", "reranking"):
            assert target in asked.candidates and not set(asked.candidates) & set(known)
            assert len(asked.candidates) == (2 if kind.form == "pairwise" else builder.config.candidate_count)
        if kind.form in ("pairwise", "matching", "reranking"):
            assert example.response == titles[target] and example.labels == (target,)
        else:
            assert example.labels == ()
        answers[kind] = example.response
    specific = builder.catalogue.target_categories[target]
    assert answers[Kind("none", "none", "wish")] == answers[Kind("implicit", "none", "wish")] == specific
    taste = re.findall("'(.+?)'(?:, |$)", answers[Kind("implicit", "none", "taste")])
    counts = Counter(builder.catalogue.target_categories[item] for item in history)
    assert len(taste) == 3 and counts[taste[0]] == max(counts.values())


def test_pointwise_is_yes_exactly_for_the_target(make: Callable[..., InstructRecInstructions]) -> None:
    builder, kind, said = make(), Kind("implicit", "none", "pointwise"), Counter()
    for user in range(60):
        rng = generator(1, 0, user, "sequential")
        example = builder._instruct(kind, "sequential", "u1", (1, 2), 18, rng)
        assert (example.response == "yes") == (example.instruction.candidates == (18,))
        said[example.response] += 1
    assert set(said) == {"yes", "no"} and min(said.values()) > 15


@pytest.mark.parametrize("form", ["pointwise", "pairwise", "reranking"])
@pytest.mark.parametrize("intention", ["vague", "specific"])
def test_without_a_user_the_category_tells_the_right_item(
    make: Callable[..., InstructRecInstructions], form: str, intention: str
) -> None:
    builder, target = make(), 18
    for item in range(30):
        rng = generator(1, 0, item, "search")
        example = builder._instruct(Kind("none", intention, form), "search", None, (), target, rng)
        asked = example.instruction
        inside = [shown for shown in asked.candidates if asked.category in builder.catalogue.categories[shown]]
        assert inside == ([] if example.response == "no" else [target])


def test_an_epoch_has_two_samples_a_user_and_one_an_item(make: Callable[..., InstructRecInstructions]) -> None:
    builder = make()
    examples = builder.epoch(0, FAMILIES)
    tasks = Counter(example.instruction.task for example in examples)
    users, items = len(builder.users), len(builder.catalogue)
    assert tasks == {"sequential": users, "category_positive": users, "search": items}
    assert examples == make().epoch(0, FAMILIES) and examples != builder.epoch(1, FAMILIES)
    for example in examples:
        asked = example.instruction
        if asked.task != "search":
            train = builder.sequences.train(builder.sequences.users.index(asked.user)).tolist()
            assert asked.target in train and set(asked.history) <= set(train)
    assert len({example.instruction.prompt for example in examples}) > 0.9 * len(examples)


def test_a_long_prompt_loses_history_first_and_never_the_question(
    make: Callable[..., InstructRecInstructions], builder: InstructionBuilder
) -> None:
    short, history = make(max_prompt=200), tuple(range(2, 12))
    rng = generator(0, 0, 1, "sequential")
    asked = short._instruct(Kind("implicit", "specific", "reranking"), "sequential", "u1", history, 18, rng).instruction
    assert asked.history == () or asked.history == history[-len(asked.history) :]
    assert 18 in asked.candidates and len(asked.candidates) < builder.config.candidate_count
    assert short.limit.prompt_tokens(asked.messages) <= 200
    with pytest.raises(CtrlRecError, match="alone is longer"):
        make(max_prompt=5)._instruct(Kind("implicit", "none", "matching"), "sequential", "u1", history, 18, rng)


def test_every_setting_is_asked_in_its_own_words(make: Callable[..., InstructRecInstructions]) -> None:
    builder = make()
    for name, setting in SETTINGS.items():
        if setting.conditions:
            continue
        (example,) = builder.complete([builder.question(setting.task, 3, 10, setting.proportion)])
        asked = example.instruction
        assert asked.prompt.startswith("A user has taken these items") and asked.item_count == 10, name
        assert (asked.category is None) == (setting.task == "sequential")
        if asked.category is not None:
            assert f"'{asked.category}'" in asked.prompt
        if setting.proportion is not None:
            assert f"{setting.proportion}%" in asked.prompt


def test_a_blend_is_asked_condition_by_condition(make: Callable[..., InstructRecInstructions]) -> None:
    builder = make()
    (example,) = builder.complete([builder.blended_question(3, 10, 3, unseen=False)])
    said, conditions = example.instruction.prompt, example.instruction.conditions
    assert len(conditions) == 3 and said.startswith("A user has taken these items")
    places = [said.index(f"'{each.category}'") for each in conditions]
    assert places == sorted(places) and all(f"{each.proportion}%" in said for each in conditions if each.proportion)


def test_beams_are_the_likeliest_answers_in_order(
    make_t5: Callable[[], PreTrainedModel], t5_format: ChatFormat, builder: InstructionBuilder
) -> None:
    model = make_t5()
    asked = [builder.complete([builder.question("sequential", user, 4, None)])[0].instruction for user in (1, 2, 3)]
    prompts = t5_format.prompts([instruction.messages for instruction in asked])
    advanced: list[int] = []
    lists = beam_lists(model, t5_format, prompts, [4, 3, 4], 3, 8, advanced.append)
    assert sum(advanced) == 3
    assert [len(written_items(text)) for text in lists] == [4, 3, 4]
    assert lists == [
        beam_lists(model, t5_format, [prompt], [count], 3, 8)[0]
        for prompt, count in zip(prompts, [4, 3, 4], strict=True)
    ]
    # With one token the k best beams are the k likeliest first tokens.
    start = torch.tensor([[model.config.decoder_start_token_id]])
    with torch.no_grad():
        first = model(input_ids=torch.tensor(prompts[:1]), decoder_input_ids=start).logits[0, -1]
    likeliest = [t5_format.decode([token]).strip() for token in first.topk(4).indices.tolist()]
    text = beam_lists(model, t5_format, prompts[:1], [4], 1, 8)[0]
    assert [item.title for item in written_items(text)] == likeliest
