"""The instruction set: counts, labels that obey, determinism, no leak, prompts that fit."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctrlrec.config.schema import CategorySampling
from ctrlrec.controls.instruction import Example
from ctrlrec.controls.registry import families
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.teacher.ranker import Ranker

FAMILIES = ("sequential", "category", "proportion", "search", "chat")
Make = Callable[..., InstructionBuilder]
USER_TASKS = tuple(task for turns in families().values() for task in turns if task not in ("search", "chat"))


@pytest.fixture(scope="module")
def epochs(builder: InstructionBuilder) -> list[list[Example]]:
    return [builder.epoch(number, FAMILIES) for number in range(6)]


@pytest.fixture(scope="module")
def examples(epochs: list[list[Example]]) -> list[Example]:
    return [example for epoch in epochs for example in epoch]


def personal(examples: list[Example]) -> list[Example]:
    return [example for example in examples if example.instruction.user is not None]


def obeys(example: Example, catalogue: Catalogue) -> bool:
    """Whether the labels do as asked, counted from the titles' categories."""
    asked = example.instruction
    count = sum(asked.category in catalogue.categories[item] for item in example.labels)
    k, demand = asked.item_count, asked.item_count * (asked.proportion or 0)
    return {
        "sequential": True,
        "category_positive": count == k,
        "category_negative": count == 0,
        "proportion_at_most": 100 * count <= demand,
        "proportion_at_least": 100 * count >= demand,
        "proportion_about": abs(100 * count - demand) <= 100,
    }[asked.task]


# ---------------------------------------------------------------------- Table 7


def test_counts_of_table_7(builder: InstructionBuilder, epochs: list[list[Example]]) -> None:
    users, items = 25, 40
    for epoch in epochs:
        counts = Counter(example.instruction.task for example in epoch)
        assert counts["sequential"] == users
        assert {counts["category_positive"], counts["category_negative"]} == {12, 13}
        thirds = [counts[task] for task in families()["proportion"]]
        assert sorted(thirds) == [8, 8, 9]
        assert counts["search"] == items
        assert counts["chat"] == round(0.1 * (3 * users + items))


def test_chat_is_half_of_all_others(make_builder: Make) -> None:
    counts = Counter(example.instruction.task == "chat" for example in make_builder(chat_ratio=0.5).epoch(0, FAMILIES))
    assert counts == {False: 115, True: 58}  # round(57.5): Table 7 has 29199 of 58398


def test_a_user_meets_every_kind_over_the_epochs(epochs: list[list[Example]]) -> None:
    kinds: dict[str, set[str]] = {}
    for epoch in epochs:
        for example in personal(epoch):
            kinds.setdefault(str(example.instruction.user), set()).add(example.instruction.task)
    assert all(met == set(USER_TASKS) for met in kinds.values())


def test_item_counts_cover_one_to_ten(examples: list[Example]) -> None:
    asked = {example.instruction.item_count for example in examples if example.instruction.task == "sequential"}
    assert asked == set(range(1, 11))


def test_only_the_families_asked_for_are_built(builder: InstructionBuilder) -> None:
    built = {example.instruction.task.split("_")[0] for example in builder.epoch(0, ("category", "search"))}
    assert built == {"category", "search"}


def test_users_without_a_window_are_left_out(
    make_builder: Make, make_sequences: Callable[..., Sequences], catalogue: Catalogue
) -> None:
    whole = make_sequences()
    short = Sequences(
        ("short", *whole.users),
        np.concatenate([[0], whole.offsets + 3]),
        np.concatenate([[0, 1, 2], whole.items]).astype("int32"),
        10,
    )
    built = make_builder(sequences=short).epoch(0, ("sequential",))
    assert len(built) == 25
    assert "short" not in {example.instruction.user for example in built}


def test_halves_and_thirds_are_exact_whoever_has_no_window(
    make_builder: Make, make_sequences: Callable[..., Sequences]
) -> None:
    """Every second user is too short for a window, which must not leave one kind to those that remain."""
    whole = make_sequences()
    parts: list[np.ndarray] = []
    for user in range(len(whole)):
        parts += [whole.items[whole.offsets[user] : whole.offsets[user + 1]], np.array([0, 1, 2])]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    names = tuple(f"u{place}" for place in range(len(parts)))
    builder = make_builder(sequences=Sequences(names, offsets, np.concatenate(parts).astype("int32"), 10))
    for epoch in range(2):
        counts = Counter(example.instruction.task for example in builder.epoch(epoch, ("category", "proportion")))
        assert {counts["category_positive"], counts["category_negative"]} == {12, 13}
        assert sorted(counts[task] for task in families()["proportion"]) == [8, 8, 9]


def dialogues(folder: Path, *answers: str) -> str:
    path = folder / "chat.jsonl"
    turns = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}] for answer in answers]
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in turns))
    return str(path)


def test_turns_that_do_not_fit_are_drawn_again(
    make_builder: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = dialogues(tmp_path, *["Hello"] * 3, *["word " * 600] * 17)
    built = make_builder(chat_ratio=0.5, chat_path=path).epoch(0, FAMILIES)
    chat = [example for example in built if example.instruction.task == "chat"]
    assert len(chat) == 58 and {example.response for example in chat} == {"Hello"} and not caplog.text


def test_chat_that_never_fits_is_warned_of_once(
    make_builder: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    builder = make_builder(chat_ratio=0.5, chat_path=dialogues(tmp_path, "word " * 600))
    for epoch in range(2):
        assert len(builder.epoch(epoch, FAMILIES)) == 115
    assert caplog.text.count("58 of 58 examples of an epoch are missing") == 1


# ---------------------------------------------------------------------- windows


def test_windows_come_from_the_training_items(examples: list[Example], sequences: Sequences) -> None:
    lengths = set()
    for example in personal(examples):
        asked = example.instruction
        items = sequences.train(sequences.users.index(str(asked.user))).tolist()
        end = items.index(asked.target)
        assert 1 <= len(asked.history) <= 10
        assert list(asked.history) == items[end - len(asked.history) : end]
        lengths.add(len(asked.history))
    assert lengths == set(range(1, 11))


def test_windows_change_from_epoch_to_epoch(epochs: list[list[Example]]) -> None:
    windows = [[example.instruction.history for example in epoch[:25]] for epoch in epochs]
    assert all(windows[0] != other for other in windows[1:])


@pytest.mark.parametrize("ends", [(0, 1), (30, 31)])
def test_the_last_two_items_change_no_training_example(
    make_builder: Make, make_sequences: Callable[..., Sequences], examples: list[Example], ends: tuple[int, int]
) -> None:
    """No leak: with every user's validation and test item replaced, six epochs and RL's prompts stay what they were."""
    other = make_builder(sequences=make_sequences(ends))
    assert [example for epoch in range(6) for example in other.epoch(epoch, FAMILIES)] == examples
    assert other.rollout_prompts(1, 20, (5, 10)) == make_builder().rollout_prompts(1, 20, (5, 10))


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize("sampling", list(CategorySampling))
def test_labels_obey_and_come_in_the_teachers_order(
    make_builder: Make, sampling: CategorySampling, catalogue: Catalogue, ranker: Ranker
) -> None:
    builder = make_builder(category_sampling=sampling)
    built = personal([example for epoch in range(6) for example in builder.epoch(epoch, FAMILIES)])
    kept = 0
    for example in built:
        asked, labels = example.instruction, example.labels
        assert obeys(example, catalogue), (asked.task, asked.category, asked.proportion)
        assert len(labels) == asked.item_count == len(set(labels))
        assert not set(labels) & set(asked.history)
        assert list(example.label_ranks) == ranker.ranks([asked.history], [labels])[0]
        kept += asked.target in labels
        rest = example.label_ranks[1:] if asked.target in labels else example.label_ranks
        assert list(rest) == sorted(rest)  # type: ignore[type-var]
        if asked.target in labels:
            assert labels[0] == asked.target
    if sampling == CategorySampling.ground_truth:
        assert kept == len(built)
    else:
        assert 0 < kept < len(built)
    assert len(built) == 6 * 3 * 25


def test_labels_are_the_best_that_obey(examples: list[Example], catalogue: Catalogue, ranker: Ranker) -> None:
    """Exchanging any label but the first for a better one of the same side is never possible."""
    for example in personal(examples):
        asked = example.instruction
        order = ranker.top_k([asked.history], len(catalogue))[0]
        for inside in (True, False):
            side = [item for item in order if (asked.category in catalogue.categories[item]) == inside]
            chosen = [item for item in example.labels[1:] if (asked.category in catalogue.categories[item]) == inside]
            assert chosen == [item for item in side if item != asked.target][: len(chosen)]


def test_the_category_asked_for_is_the_ground_truths_or_not_at_all(
    examples: list[Example], catalogue: Catalogue, ranker: Ranker
) -> None:
    for example in personal(examples):
        asked = example.instruction
        own = catalogue.categories[asked.target]
        if asked.task in ("category_positive", "proportion_at_least", "proportion_about"):
            assert asked.category in own
        elif asked.task != "sequential":
            assert asked.category not in own


def test_negative_category_is_the_teachers_largest(builder: InstructionBuilder, catalogue: Catalogue) -> None:
    """On the validation set, where k is 10 throughout."""
    checked = 0
    for example in builder.validation():
        asked = example.instruction
        if asked.task != "category_negative":
            continue
        best = builder.ranker.top_k([asked.history], 10)[0]
        shares = Counter(
            name for item in best for name in catalogue.categories[item]
            if name not in catalogue.categories[asked.target]
        )  # fmt: skip
        assert shares[asked.category] == max(shares.values())
        checked += 1
    assert checked == 8


def test_proportions_vary_within_what_is_allowed(examples: list[Example], catalogue: Catalogue) -> None:
    slack = Counter(
        100 * sum(asked.category in catalogue.categories[item] for item in example.labels)
        - asked.item_count * asked.proportion
        for example in examples
        if (asked := example.instruction).task == "proportion_at_least"
    )
    assert len(slack) > 3


def test_search_lists_are_of_or_outside_the_category(examples: list[Example], catalogue: Catalogue) -> None:
    signs = Counter()
    for example in examples:
        asked = example.instruction
        if asked.task != "search":
            continue
        inside = {asked.category in catalogue.categories[item] for item in example.labels}
        assert len(inside) == 1
        negative = any(word in asked.prompt for word in ("n't like", "exclude", "not interested", "n't ", "hate"))
        assert inside == {not negative}
        assert (asked.user, asked.history, asked.target) == (None, (), None)
        assert len(set(example.labels)) == len(example.labels) == asked.item_count
        signs[negative] += 1
    assert min(signs.values()) > 0.35 * signs.total()


def test_every_training_item_is_asked_for_in_search(epochs: list[list[Example]]) -> None:
    for epoch in epochs:
        listed = {item for example in epoch if example.instruction.task == "search" for item in example.labels}
        assert listed == set(range(40))


def test_candidates_hold_the_answer_and_no_history(examples: list[Example], catalogue: Catalogue) -> None:
    chosen = [example for example in examples if example.instruction.candidates is not None]
    assert {example.instruction.task for example in chosen} == {
        "sequential", "category_positive", "category_negative", "search",
    }  # fmt: skip
    for example in chosen:
        asked = example.instruction
        assert set(example.labels) <= set(asked.candidates)
        assert len(set(asked.candidates)) == len(asked.candidates) <= 15
        assert not set(asked.candidates) & set(asked.history)
        titles = ", ".join(f"'{catalogue.titles[item]}'" for item in asked.candidates)
        assert f"The candidate items are: {titles}. " in asked.prompt
    in_front = sum(
        example.instruction.candidates[: len(example.labels)] == example.labels
        for example in chosen
        if len(example.labels) > 2
    )
    assert in_front == 0  # the answer is not read off the order of the candidates


def test_prompt_and_response_show_what_the_fields_say(examples: list[Example], catalogue: Catalogue) -> None:
    for example in examples:
        asked = example.instruction
        if asked.task == "chat":
            continue
        assert asked.messages[-1] == ("user", asked.prompt)
        assert f" {asked.item_count} different items" in asked.prompt
        assert ", ".join(f"'{catalogue.titles[item]}'" for item in asked.history) in asked.prompt
        if asked.category is not None:
            assert f"'{asked.category}'" in asked.prompt
        if asked.proportion is not None:
            assert f" {asked.proportion}%" in asked.prompt
        lines = example.response.split("\n")
        assert lines == [f"{n}. {catalogue.titles[item]}" for n, item in enumerate(example.labels, 1)]


# ---------------------------------------------------------------------- determinism


def test_a_sample_depends_on_nothing_but_seed_epoch_user_and_task(
    builder: InstructionBuilder, epochs: list[list[Example]]
) -> None:
    """Building fewer users, fewer kinds, later epochs first, changes no sample that is built."""
    known = {
        (epoch, example.instruction.user, example.instruction.task): example
        for epoch, built in enumerate(epochs)
        for example in personal(built)
    }
    for epoch in (4, 1, 0):
        for some in (("category",), ("proportion", "sequential")):
            for example in builder.epoch(epoch, some):
                assert known[epoch, example.instruction.user, example.instruction.task] == example
    for user in (20, 3):
        drafts = [builder._window(2, user, "sequential")]
        (alone,) = builder.complete(drafts)
        assert known[2, builder.sequences.users[user], "sequential"] == alone


def test_search_does_not_depend_on_what_else_is_built(builder: InstructionBuilder, epochs: list[list[Example]]) -> None:
    alone = builder.epoch(1, ("search",))
    assert alone == [example for example in epochs[1] if example.instruction.task == "search"]


def test_seeds_differ(make_builder: Make, epochs: list[list[Example]]) -> None:
    other = make_builder(seed=4).epoch(0, FAMILIES)
    assert sum(a == b for a, b in zip(other, epochs[0], strict=True)) < 5


def test_validation_uses_the_validation_item_and_fixed_kinds(
    make_builder: Make, builder: InstructionBuilder, sequences: Sequences
) -> None:
    validation = builder.validation()
    kinds = Counter(example.instruction.task for example in validation)
    assert kinds == dict.fromkeys(("sequential", "category_positive", "category_negative", "proportion_about"), 8)
    for example in validation:
        asked = example.instruction
        history, target = sequences.validation(sequences.users.index(str(asked.user)))
        assert (asked.history, asked.target) == (tuple(history.tolist()), target)
        # fewer than 10 only where the small world's category cannot supply them
        assert len(example.labels) == asked.item_count <= 10
        assert asked.proportion == (50 if asked.task == "proportion_about" else None)
        assert example.labels[0] == target
    assert make_builder().validation() == validation


def test_questions_are_about_the_test_item(builder: InstructionBuilder, sequences: Sequences) -> None:
    drafts = [builder.question("proportion_about", user, 10, 30, suffix=" Briefly.") for user in range(25)]
    asked = [example.instruction for example in builder.complete(drafts)]
    for user, instruction in enumerate(asked):
        history, target = sequences.test(user)
        assert (instruction.history, instruction.target) == (tuple(history.tolist()), target)
        assert instruction.category == builder.catalogue.target_categories[target]
        assert instruction.item_count == 10
        assert instruction.prompt.endswith("with 10 different items. Briefly.")


def test_questions_ask_for_more_than_there_is(
    make_builder: Make, catalogue: Catalogue, make_sequences: Callable[..., Sequences]
) -> None:
    """A test question asks for its k whatever the catalogue holds, and all kinds do so alike."""
    builder = make_builder()
    for task, proportion in (("sequential", None), ("category_positive", None), ("proportion_about", 30)):
        asked = builder.complete([builder.question(task, user, 45, proportion) for user in range(25)])
        assert {example.instruction.item_count for example in asked} == {45}
        assert all(" 45 different items" in example.instruction.prompt for example in asked)
        assert all(len(example.labels) < 45 for example in asked)


def test_rollout_prompts_take_turns_and_stay_in_their_range(builder: InstructionBuilder) -> None:
    prompts = [one for iteration in range(15) for one in builder.rollout_prompts(iteration, 5, (5, 10))]
    assert len(prompts) == 75  # one turn: every user once with each kind
    assert Counter(one.task.split("_")[0] for one in prompts) == {"sequential": 25, "category": 25, "proportion": 25}
    assert set(Counter(one.user for one in prompts).values()) == {3}
    assert {one.item_count for one in prompts} <= set(range(1, 11))
    assert {one.item_count for one in prompts if one.task == "sequential"} <= set(range(5, 11))
    assert builder.rollout_prompts(7, 5, (5, 10)) == prompts[35:40]
    assert [one.history for one in builder.rollout_prompts(15, 25, (5, 10))] != [one.history for one in prompts[:25]]


def test_rollout_prompts_are_in_the_free_form_whatever_training_asks(make_builder: Make) -> None:
    free, selecting = (
        [one for turn in range(5) for one in make_builder(candidate_share=share).rollout_prompts(turn, 15, (6, 10))]
        for share in (0.0, 1.0)
    )
    assert all(one.candidates is None for one in selecting)
    assert free == selecting  # the other draws of a prompt stay what they were


# ---------------------------------------------------------------------- length


@pytest.mark.parametrize("room", [112, 118, 125])
def test_a_long_prompt_loses_its_oldest_history_and_never_its_instruction(
    make_builder: Make, chat_format: ChatFormat, epochs: list[list[Example]], room: int
) -> None:
    limit = dataclasses.replace(chat_format.limit(), max_prompt=room)
    cut = make_builder(limit=limit, candidate_share=0.0)
    whole = make_builder(candidate_share=0.0)
    shortened = moved = 0
    for epoch in range(3):
        built = cut.epoch(epoch, ("sequential", "category", "proportion"))
        for example, original in zip(built, whole.epoch(epoch, ("sequential", "category", "proportion")), strict=True):
            asked, full = example.instruction, original.instruction
            assert len(chat_format.prompts([asked.messages])[0]) <= room
            kept = len(asked.history)
            assert asked.history == full.history[len(full.history) - kept :]
            # Labels are the teacher's after what is shown, as the ranks of rewards are.
            assert list(example.label_ranks) == cut.ranker.ranks([asked.history], [example.labels])[0]
            assert list(example.label_ranks[1:]) == sorted(example.label_ranks[1:])  # type: ignore[type-var]
            assert obeys(example, cut.catalogue) and not set(example.labels) & set(asked.history)
            assert asked.prompt.endswith(f"with {asked.item_count} different items.")
            if asked.category is not None:
                assert f"'{asked.category}'" in asked.prompt
            if kept < len(full.history):
                shortened += 1
                moved += example.labels != original.labels
            # No more was dropped than had to be; only where the teacher names no category, which may be shorter now.
            if kept < len(full.history) and asked.task not in ("category_negative", "proportion_at_most"):
                longer = templates_with_one_more(cut, asked, full.history[len(full.history) - kept - 1])
                assert len(chat_format.prompts([(("user", longer),)])[0]) > room
    assert shortened > 5 and moved > 0


def templates_with_one_more(builder: InstructionBuilder, asked: Any, item: int) -> str:
    titles = builder.catalogue.titles
    shown = ", ".join(f"'{titles[index]}'" for index in asked.history)
    return asked.prompt.replace(shown, f"'{titles[item]}'" + (", " if shown else "") + shown, 1)


def test_distractors_go_before_the_answer_does(make_builder: Make, chat_format: ChatFormat) -> None:
    limit = dataclasses.replace(chat_format.limit(), max_prompt=240)
    built = make_builder(limit=limit, candidate_share=1.0, item_count_max=4).epoch(0, ("sequential", "search"))
    assert any(len(example.instruction.candidates or ()) < 15 for example in built)
    for example in built:
        asked = example.instruction
        assert asked.history or asked.task == "search"
        assert set(example.labels) <= set(asked.candidates or ())
        assert len(chat_format.prompts([asked.messages])[0]) <= 240


def test_labels_that_fill_a_prompt_are_asked_for_freely(make_builder: Make, chat_format: ChatFormat) -> None:
    """Of long titles, ten labels as candidates would leave no room for the instruction."""
    limit = dataclasses.replace(chat_format.limit(), max_prompt=150)
    builder = make_builder(limit=limit, candidate_share=1.0, item_count_max=10)
    built = builder.epoch(0, ("sequential", "search"))
    freely = [example.instruction for example in built if example.instruction.candidates is None]
    assert 0 < len(freely) < len(built)
    assert all(len(chat_format.prompts([example.instruction.messages])[0]) <= 150 for example in built)
    # The history that the candidates had pushed out is back.
    assert any(len(asked.history) > 1 for asked in freely)
    assert all(example.instruction.history for example in built if example.instruction.task != "search")
    # A test question is asked in the form it was meant to have, or not at all.
    asked = [builder.question("sequential", user, 10, None, selection=True) for user in range(20)]
    with pytest.raises(CtrlRecError, match="alone is longer"):
        builder.complete(asked)


def test_an_instruction_that_never_fits_is_an_error(make_builder: Make, chat_format: ChatFormat) -> None:
    limit = dataclasses.replace(chat_format.limit(), max_prompt=15)
    with pytest.raises(CtrlRecError, match=r"instruction alone is longer than the 15 tokens.*model\.max_length"):
        make_builder(limit=limit).epoch(0, ("sequential",))


@pytest.mark.parametrize("suffix", ["", " Answer with the list alone, one item per line, and not a word more." * 2])
def test_no_prompt_exceeds_its_limit_whatever_the_limit(
    make_builder: Make, chat_format: ChatFormat, suffix: str
) -> None:
    tasks = ("category_negative", "category_positive", "proportion_about", "sequential")
    for room in range(210, 340, 5):
        builder = make_builder(limit=dataclasses.replace(chat_format.limit(), max_prompt=room))
        drafts = [
            builder.question(task, user, 10, 30 if task == "proportion_about" else None, suffix)
            for user in range(25)
            for task in tasks
        ]
        prompts = chat_format.prompts([example.instruction.messages for example in builder.complete(drafts)])
        assert max(len(prompt) for prompt in prompts) <= room


def test_a_category_of_few_letters_and_many_tokens_leaves_its_prompt_within_the_limit(
    make_builder: Make, catalogue: Catalogue, chat_format: ChatFormat
) -> None:
    names = {"Drama": "アクション・冒険・ドラマ映画", "Comedy": "Comedy of many a long word"}
    renamed = dataclasses.replace(
        catalogue,
        categories=tuple(tuple(names.get(name, name) for name in own) for own in catalogue.categories),
        target_categories=tuple(names.get(name, name) for name in catalogue.target_categories),
    )
    for room in range(150, 230, 5):
        limit = dataclasses.replace(chat_format.limit(), max_prompt=room)
        builder = make_builder(catalogue=renamed, limit=limit, candidate_share=0.0)
        built = builder.epoch(0, ("category", "proportion"))
        assert max(map(len, chat_format.prompts([example.instruction.messages for example in built]))) <= room


def test_a_system_prompt_leads_and_counts(make_builder: Make, chat_format: ChatFormat) -> None:
    limit = dataclasses.replace(chat_format.limit(), system_prompt="Be kind.")
    for example in make_builder(limit=limit).epoch(0, ("sequential",)):
        assert [role for role, _ in example.instruction.messages] == ["system", "user"]
        assert example.instruction.messages[0][1] == "Be kind."


# ---------------------------------------------------------------------- files


def test_records_hold_titles_and_the_fields_of_the_contract(examples: list[Example], catalogue: Catalogue) -> None:
    fields = {
        "task", "user", "history", "target", "item_count", "category", "proportion", "constraints",
        "candidates", "prompt", "response", "labels", "label_ranks",
    }  # fmt: skip
    for example in examples[:200]:
        record = example.record(catalogue)
        assert set(record) == fields
        assert record["history"] == [catalogue.titles[item] for item in example.instruction.history]
        assert record["task"] in {task for turns in families().values() for task in turns}


def test_lists_are_as_long_as_the_configuration_says(make_builder: Callable[..., InstructionBuilder]) -> None:
    examples = make_builder(item_count_min=4, item_count_max=6).epoch(0, ("sequential", "category", "search"))
    assert {example.instruction.item_count for example in examples} == {4, 5, 6}


def test_searches_alone_may_be_longer_and_nothing_else_changes(make_builder: Make) -> None:
    asked = ("sequential", "category", "proportion", "search")
    usual = make_builder(item_count_max=4).epoch(0, asked)
    longer = make_builder(item_count_max=4, search_item_count_max=9).epoch(0, asked)
    searches = [example for example in longer if example.instruction.task == "search"]
    assert max(example.instruction.item_count for example in searches) > 4
    assert all(len(example.labels) == example.instruction.item_count <= 9 for example in searches)
    others = [[example for example in built if example.instruction.task != "search"] for built in (usual, longer)]
    assert others[0] == others[1]
