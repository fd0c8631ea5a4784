"""Questions that give candidates: who is among them, and what an answer from outside them is worth."""

from collections.abc import Callable
from types import SimpleNamespace

from ctrlrec.evaluation.answering import predictions, teacher_answers
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder

SETTINGS = ["sequential", "category_positive", "category_negative", "about_30"]


def asked(builder: InstructionBuilder, selection: bool, answerer: Callable) -> list[dict]:
    evaluation = SimpleNamespace(
        settings=SETTINGS, users=6, item_count=5, selection=selection, formatting_item_counts=[11]
    )
    variant = SimpleNamespace(prompt_suffix=None, first_users=None, lenient_answers=False)
    config = SimpleNamespace(evaluation=evaluation, variant=variant)
    matcher = TitleMatcher(builder.catalogue.titles, 0)
    return [row for setting in SETTINGS for row in predictions(setting, config, builder, answerer, matcher)]


def test_candidates_hold_the_target_and_nothing_of_the_history(builder: InstructionBuilder) -> None:
    titles = builder.catalogue.titles
    rows = asked(builder, True, lambda questions: [templates.answer(titles[:5]) for _ in questions])
    for row in rows:
        assert ("candidates" in row) == (row["setting"] != "about_30")  # I2 has no such form
        if "candidates" in row:
            assert row["target"] in row["candidates"] and not set(row["candidates"]) & set(row["history"])
            assert len(set(row["candidates"])) == builder.config.candidate_count
            assert all(f"'{title}'" in row["prompt"] for title in row["candidates"])
            offered = set(row["candidates"])
            assert row["items"] == [title if title in offered else None for title in titles[:5]]
        else:
            assert row["items"] == list(titles[:5])
    assert any(None in row["items"] for row in rows)


def test_it_is_off_unless_asked_for_and_asks_the_same_users(builder: InstructionBuilder) -> None:
    free = asked(builder, False, lambda questions: ["" for _ in questions])
    chosen = asked(builder, True, lambda questions: ["" for _ in questions])
    assert not any("candidates" in row for row in free)
    keys = ("setting", "user", "target", "item_count", "category", "proportion")
    assert [[row[key] for key in keys] for row in free] == [[row[key] for key in keys] for row in chosen]


def test_the_teacher_chooses_its_best_among_the_candidates(builder: InstructionBuilder) -> None:
    index = builder.catalogue.title_index
    for row in asked(builder, True, teacher_answers(builder)):
        history = [index[title] for title in row["history"]]
        (order,) = builder.ranker.top_k([history], len(index))
        offered = {index[title] for title in row["candidates"]} if "candidates" in row else set(order)
        assert [index[title] for title in row["items"]] == [item for item in order if item in offered][:5]
