"""Labels of the row palr come from behaviour alone."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from ctrlrec.baselines.palr import PALRInstructions
from ctrlrec.data.sequences import Sequences
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder


class NoTeacher:
    """Fails where anything is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the teacher was asked for {name}")


@pytest.fixture
def palr(builder: InstructionBuilder) -> PALRInstructions:
    return PALRInstructions(
        builder.catalogue,
        builder.sequences,
        NoTeacher(),
        builder.config,
        builder.limit,
        builder.seed,  # type: ignore[arg-type]
    )


def test_labels_are_the_next_items_of_the_training_prefix(palr: PALRInstructions, sequences: Sequences) -> None:
    lengths = Counter()
    for epoch in range(6):
        for example in palr.epoch(epoch, ("sequential", "category", "chat")):
            asked = example.instruction
            items = sequences.train(sequences.users.index(asked.user)).tolist()
            joined = [*asked.history, *example.labels]
            begin = items.index(joined[0])
            assert items[begin : begin + len(joined)] == joined
            assert asked.target == example.labels[0]
            assert asked.item_count == len(example.labels) and f" {asked.item_count} different items" in asked.prompt
            assert example.label_ranks == (None,) * len(example.labels)
            assert example.response == templates.answer([palr.catalogue.titles[item] for item in example.labels])
            lengths[asked.item_count] += 1
    assert len(lengths) > 4


def test_users_take_turns_with_the_two_kinds(palr: PALRInstructions) -> None:
    first, second = palr.epoch(0, ("sequential",)), palr.epoch(1, ("sequential",))
    selecting = [example.instruction.candidates is not None for example in first]
    assert selecting == [example.instruction.candidates is None for example in second]
    assert abs(2 * sum(selecting) - len(selecting)) <= 1
    for example in first + second:
        asked = example.instruction
        if asked.candidates is not None:
            assert set(example.labels) <= set(asked.candidates)
            assert not set(asked.history) & set(asked.candidates)
            assert len(asked.candidates) == max(palr.config.candidate_count, len(example.labels))


def test_other_tasks_are_not_built(palr: PALRInstructions) -> None:
    assert palr.epoch(0, ("category", "proportion", "search", "chat")) == []


def test_validation_asks_for_the_validation_item_alone(palr: PALRInstructions, sequences: Sequences) -> None:
    examples = palr.validation()
    assert len(examples) == palr.config.validation_size
    for example in examples:
        history, target = sequences.validation(sequences.users.index(example.instruction.user))
        assert example.labels == (target,) and np.array_equal(example.instruction.history, history)


def test_it_is_asked_what_the_other_rows_are_asked(builder: InstructionBuilder) -> None:
    own = PALRInstructions(
        builder.catalogue, builder.sequences, builder.ranker, builder.config, builder.limit, builder.seed
    )
    for task, proportion in (("sequential", None), ("category_positive", None), ("proportion_about", 30)):
        asked = [
            [one.complete([one.question(task, user, 10, proportion)]) for user in range(5)] for one in (own, builder)
        ]
        assert asked[0] == asked[1]
