"""What greedy answers to validation questions score, counted by hand."""

from collections.abc import Callable

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.rewards.judging import judge
from ctrlrec.rewards.reward import Reward
from ctrlrec.rl.rollout import Answer
from ctrlrec.rl.validation import means_by_kind, measured
from ctrlrec.teacher.ranker import Ranker

HISTORY, TARGET = (1, 2), 5
Ask = Callable[..., dict[str, float]]


@pytest.fixture
def scored(catalogue: Catalogue, ranker: Ranker, builder: InstructionBuilder) -> Ask:
    """Scores of an answer to a question for five items of or against the first category."""
    category = catalogue.category_names[0]
    members = [int(item) for item in range(len(catalogue)) if catalogue.membership[0][item] and item not in HISTORY]
    others = [item for item in range(len(catalogue)) if not catalogue.membership[0][item] and item not in HISTORY]

    def ask(
        task: str, inside: int, outside: int, *titles: str, proportion: int | None = None, item_weight: float = 1.0
    ):
        asked = Instruction(task, "u0", HISTORY, TARGET, 5, category, proportion, None, (("user", ""),))
        rest = [item for item in others if item != TARGET]
        written = [catalogue.titles[item] for item in (*members[:inside], *rest[:outside])] + list(titles)
        (judgement,) = judge([asked], [written], catalogue, ranker)
        rewards = tuple(float(place) for place in range(len(written)))
        answer = Answer([1], [2], [0.0], "", tuple(written), judgement, rewards, 0.25, (0,), True)
        kind, scores = measured(answer, Reward(compose(f"reward.item_weight={item_weight}").reward))
        assert kind == task
        return scores

    return ask


def test_what_every_question_is_scored_by(scored: Ask, catalogue: Catalogue) -> None:
    scores = scored("sequential", 1, 1, catalogue.titles[TARGET], catalogue.titles[TARGET], "No Such Film")
    assert scores == {"reward": 10 * 0.25 + 0 + 1 + 2 + 3 + 4, "repeat": 1 / 5, "nonexist": 1 / 5, "hr": 1}
    assert scored("sequential", 1, 1, item_weight=0)["reward"] == 2.5
    assert scored("sequential", 2, 3, catalogue.titles[TARGET])["hr"] == 0  # after the fifth item


def test_a_missing_item_is_no_merit(scored: Ask) -> None:
    assert scored("category_positive", 3, 1)["tcp_positive"] == 3 / 5
    assert scored("category_negative", 1, 2)["tcp_negative"] == 3 / 5
    assert scored("category_negative", 0, 0)["tcp_negative"] == 1


@pytest.mark.parametrize(
    ("task", "proportion", "inside", "outside", "titles", "holds"),
    [
        ("proportion_at_most", 20, 1, 4, (), 1),
        ("proportion_at_most", 20, 2, 3, (), 0),
        ("proportion_at_most", 20, 1, 3, (), 0),  # one is missing
        ("proportion_at_most", 20, 0, 4, ("No Such Film",), 1),
        ("proportion_at_most", 20, 1, 3, ("No Such Film",), 0),
        ("proportion_at_least", 30, 2, 0, (), 1),
        ("proportion_at_least", 30, 1, 4, (), 0),
        ("proportion_about", 30, 2, 3, (), 1),  # 1.5 is asked for
        ("proportion_about", 30, 3, 2, (), 0),
    ],
)
def test_proportions_by_hand(
    scored: Ask, task: str, proportion: int, inside: int, outside: int, titles: tuple[str, ...], holds: int
) -> None:
    assert scored(task, inside, outside, *titles, proportion=proportion)["cpa"] == holds


def test_kinds_weigh_alike() -> None:
    rows = [("a", {"reward": 1.0}), ("a", {"reward": 3.0}), ("b", {"reward": 10.0, "cpa": 1.0})]
    assert means_by_kind(rows) == {"reward": 6.0, "cpa": 1.0}
