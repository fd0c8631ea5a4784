"""Legality of written items, counts and ranks."""

import dataclasses

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.instructions import templates
from ctrlrec.lm.parsing import written_items
from ctrlrec.rewards.judging import judge, legality
from ctrlrec.rewards.reward import Reward
from ctrlrec.teacher.ranker import Ranker


@pytest.mark.parametrize(
    ("items", "history", "k", "expected"),
    [
        ([1, 2], [], 2, [None, None]),
        ([1, None], [], 2, [None, "nonexistent"]),
        ([1, 1, 1], [], 3, [None, "repeat", "repeat"]),
        ([1, 2], [2], 2, [None, "history"]),
        ([1, 2, 3], [], 2, [None, None, "excess"]),
        # The first reason of nonexistent, repeat, history, excess counts.
        ([1, None], [1], 1, ["history", "nonexistent"]),
        ([1, 1], [], 1, [None, "repeat"]),
        ([1, 1], [1], 2, ["history", "repeat"]),
        ([2, 1], [1], 1, [None, "history"]),
        # Two titles of no item do not repeat each other.
        ([None, None], [], 2, ["nonexistent", "nonexistent"]),
        # An item that was illegal before is still a repeat.
        ([3, 4, 4], [], 1, [None, "excess", "repeat"]),
        ([], [1], 2, []),
    ],
)
def test_first_reason_counts(items: list, history: list, k: int, expected: list) -> None:
    assert legality(items, history, k) == tuple(expected)


@pytest.fixture
def asked(catalogue: Catalogue) -> Instruction:
    return Instruction("category_positive", "u0", (1, 2, 3), 8, 4, "Drama", None, None, (("user", "?"),))


def test_titles_match_exactly_or_not_at_all(asked: Instruction, catalogue: Catalogue, ranker: Ranker) -> None:
    titles = ["12 Angry Men (1957)", "12 angry men (1957)", "Angry Men (1957)", "12 Angry Men (1957) ", "Se7en (1995)"]
    (judgement,) = judge([asked], [titles], catalogue, ranker)
    assert judgement.items == (0, None, None, None, 1)
    assert judgement.illegal == (None, "nonexistent", "nonexistent", "nonexistent", "history")


def test_a_label_is_its_own_item_whatever_quotes_stand_around_its_title(
    asked: Instruction, catalogue: Catalogue, ranker: Ranker
) -> None:
    quoted = {10: '"M"', 11: "'Round Midnight'", 12: '"Weird Al" Yankovic: "UHF"', 13: "M", 14: "\u201cHeat\u201d"}
    titles = tuple(quoted.get(item, title) for item, title in enumerate(catalogue.titles))
    others = dataclasses.replace(catalogue, titles=titles)
    written = [item.title for item in written_items(templates.answer([titles[item] for item in quoted]))]
    (judgement,) = judge([asked], [written], others, ranker)
    # A title that is another's without its quotes goes to the one that is written so.
    assert judgement.items == (13, 11, 12, 13, 14)


def test_counts_leave_illegal_items_out(asked: Instruction, catalogue: Catalogue, ranker: Ranker) -> None:
    inside = [i for i in range(len(catalogue)) if "Drama" in catalogue.categories[i] and i not in asked.history]
    outside = [i for i in range(len(catalogue)) if "Drama" not in catalogue.categories[i] and i not in asked.history]
    items = [inside[0], outside[0], inside[0], inside[1], inside[2]]  # legal, legal, repeat, legal, excess
    (judgement,) = judge([asked], [[catalogue.titles[item] for item in items]], catalogue, ranker)
    assert judgement.illegal == (None, None, "repeat", None, "excess")
    (side,) = judgement.sides
    assert side.inside == (True, False, True, True, True)
    assert (side.count_in, side.count_out) == (2, 1)
    assert side.category_size == sum("Drama" in names for names in catalogue.categories)


def test_ranks_follow_the_teachers_order(asked: Instruction, catalogue: Catalogue, ranker: Ranker) -> None:
    best = ranker.top_k([asked.history], 5)[0]
    titles = [catalogue.titles[item] for item in [best[3], best[0], 1]] + ["no such film"]
    (judgement,) = judge([asked], [titles], catalogue, ranker)
    assert judgement.ranks == (3, 0, None, None)


def test_only_candidates_exist_where_candidates_are_given(
    asked: Instruction, catalogue: Catalogue, ranker: Ranker
) -> None:
    asked = dataclasses.replace(asked, candidates=(0, 5))
    (judgement,) = judge([asked], [[catalogue.titles[item] for item in (0, 9, 5)]], catalogue, ranker)
    assert judgement.illegal == (None, "nonexistent", None)
    assert judgement.items == (0, 9, 5)  # which item it is, and its rank, are facts all the same
    assert None not in judgement.ranks


def test_a_batch_is_judged_like_its_parts(asked: Instruction, catalogue: Catalogue, ranker: Ranker) -> None:
    other = Instruction("sequential", "u1", (9,), 4, 2, None, None, None, (("user", "?"),))
    answers = [[catalogue.titles[0], "x"], [catalogue.titles[4], catalogue.titles[9], catalogue.titles[11]]]
    together = judge([asked, other], answers, catalogue, ranker)
    apart = [judge([one], [answer], catalogue, ranker)[0] for one, answer in zip([asked, other], answers, strict=True)]
    assert together == apart
    assert together[1].sides == ()
    assert together[1].illegal == (None, "history", "excess")


def test_whatever_is_written_gets_a_reward(asked: Instruction, catalogue: Catalogue, ranker: Ranker) -> None:
    answers = [[], [""], ["x"] * 30, [catalogue.titles[item] for item in range(20)]]
    for judgement in judge([asked] * len(answers), answers, catalogue, ranker):
        for reading in ("paper", "paper_literal", "released"):
            reward = Reward(compose(f"reward={reading}").reward)
            rewards = reward.item(judgement)
            assert len(rewards) == len(judgement.items)
            assert all(-1 <= reward <= 1 for reward in rewards)
            assert isinstance(reward.list(judgement), float)
