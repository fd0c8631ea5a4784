"""Corrected answers: the greedy one with the teacher's items where its own may not stand."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlrec.config.checks import check, check_choices
from ctrlrec.config.compose import compose
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rewards.judging import Judgement, judge
from ctrlrec.rl.corrections import corrected, corrections
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Answer

Make = Callable[..., RLModule]
Collect = Callable[[RLModule], list[Answer]]
Likelier = Callable[[RLModule, str], bool]

FILMS = Catalogue(
    tuple("abcdefgh"), tuple("ABCDEFGH"),
    (("Comedy",), ("Comedy",), ("Comedy",), ("Comedy",), ("Drama",), ("Drama",), ("Drama",), ("Drama",)),
    tuple(range(8)), (1,) * 8,
)  # fmt: skip


def judged(items: list[int | None], task: str = "sequential", percent: int | None = None, count: int = 4) -> Judgement:
    """An answer to a question of a user who saw H."""
    category = None if task == "sequential" else "Comedy"
    instruction = Instruction(task, "u", (7,), None, count, category, percent, None, ())
    return Judgement(instruction, tuple(items), (None,) * len(items), (None,) * len(items), ())


def names(items: tuple[int, ...] | None) -> str:
    return "".join(FILMS.titles[item] for item in items or ())


@pytest.mark.parametrize(
    ("answer", "task", "percent", "expected"),
    [
        ([0, 1, 4, 5], "sequential", None, "ABEF"),  # nothing to correct
        ([0, 0, 4, 4], "sequential", None, "AGEF"),  # the teacher likes G, F, E, D, C, B, A in this order
        ([0, None, 7, 1], "sequential", None, "AGFB"),  # an invention, and an item of the history
        ([0], "sequential", None, "AGFE"),  # an answer that ended early
        ([0, 1, 4, 5, 6], "sequential", None, "ABEF"),  # and one that did not end
        ([4, 0, 5, 1], "category_positive", None, "DACB"),
        ([0, 4, 1, 5], "category_negative", None, ""),  # three of the drama are left
        ([0, 1, 2, 3], "proportion_at_most", 50, "ABGF"),  # two comedies may stand, and they are the first
    ],
)
def test_items_stay_where_they_may_stand(
    answer: list[int | None], task: str, percent: int | None, expected: str
) -> None:
    assert names(corrected(judged(answer, task, percent), [6, 5, 4, 3, 2, 1, 0], FILMS)) == expected


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_corrected_list_is_legal_and_meets_its_condition(data: st.DataObject) -> None:
    item = st.one_of(st.none(), st.integers(0, 7))
    task, percent = data.draw(st.sampled_from([
        ("sequential", None), ("category_positive", None), ("category_negative", None), ("proportion_at_most", 30),
        ("proportion_about", 50), ("proportion_at_least", 60),
    ]))  # fmt: skip
    answer = data.draw(st.lists(item, max_size=6))
    order = data.draw(st.permutations(range(7)))
    found = corrected(judged(answer, task, percent, count=3), order, FILMS)
    assert found is not None and len(set(found)) == 3 and 7 not in found
    judgement = judged(answer, task, percent, count=3)
    for condition in judgement.instruction.conditions:
        inside = sum("Comedy" in FILMS.categories[item] for item in found)
        assert inside in condition.control.allowed(3, condition.proportion)
    if task == "sequential":
        kept = [item for place, item in enumerate(answer[:3])
                if item not in (None, 7) and item not in answer[:place] and item not in found[:place]]  # fmt: skip
        assert set(kept) <= set(found)


def with_corrections(make_module: Make, **changes: object) -> RLModule:
    return make_module(max_new_tokens=160, greedy_row=True, corrected_row=True, **changes)


def test_a_prompt_gets_its_greedy_answer_corrected(make_module: Make, collect: Collect, catalogue: Catalogue) -> None:
    plain = collect(make_module(max_new_tokens=160, greedy_row=True))
    module = with_corrections(make_module)
    answers = collect(module)
    assert [answer.kind for answer in answers] == ["sampled", "sampled", "greedy", "corrected"] * 3
    assert [answer for answer in answers if answer.kind != "corrected"] == plain
    for greedy, answer in zip(answers[2::4], answers[3::4], strict=True):
        instruction: Instruction = answer.judgement.instruction
        assert instruction == greedy.judgement.instruction
        assert len(answer.titles) == instruction.item_count and not any(answer.judgement.illegal)
        (again,) = judge([instruction], [list(answer.titles)], catalogue, module.sampler.ranker)
        assert again == answer.judgement
        for side in answer.judgement.sides:
            assert side.count_in in side.condition.control.allowed(instruction.item_count, side.condition.proportion)
    module.rollouts.add(0, answers, 4)
    rows = [json.loads(line) for line in module.rollouts.path.read_text(encoding="utf-8").splitlines()]
    assert [row.get("corrected", False) for row in rows] == [False, False, False, True] * 3


@pytest.mark.parametrize("algorithm", ["item_grpo", "ppo"])
def test_the_model_learns_to_write_it(algorithm: str, make_module: Make, becomes_likelier: Likelier) -> None:
    own = {"entropy_coefficient": 0.0, "kl_coefficient": 0.0, "learning_rate": 3e-3, "ppo_epochs": 3}
    module = with_corrections(make_module, algorithm=algorithm, **own)
    assert becomes_likelier(module, "corrected")


def test_an_answer_that_no_list_can_correct_keeps_its_items(
    builder: InstructionBuilder, chat_format: ChatFormat
) -> None:
    catalogue, titles = builder.catalogue, list(builder.catalogue.titles[:2])
    asked = replace(builder.rollout_prompts(0, 1, (2, 2))[0], item_count=len(catalogue) + 1)
    (judgement,) = judge([asked], [[titles[0], "No Such Film", titles[1]]], catalogue, builder.ranker)
    assert corrected(judgement, range(len(catalogue)), catalogue) is None
    (sample,) = corrections([judgement], catalogue, builder.ranker, chat_format)
    assert chat_format.decode(sample.tokens) == templates.answer(titles)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["rl.greedy_row=false"], "set rl.greedy_row=true"),
        (["rl.greedy_row=true", "rl/algorithm=dpo"], "rl.corrected_row=true .*sampled answers alone"),
        (["rl.greedy_row=true", "constraint=fresh", "rl.constrained=true"], "set rl.corrected_row=false"),
    ],
)
def test_what_cannot_be_corrected_is_refused(changes: list[str], said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        config = compose("variant=full", "model=llama_mini", "rl.minibatches=1", "rl.corrected_row=true", *changes)
        check(config)
        check_choices(config)
