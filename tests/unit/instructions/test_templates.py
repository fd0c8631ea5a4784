"""Prompts to the letter of Listings 1 to 6."""

import pytest

from ctrlrec.controls.registry import CONTROLS, families
from ctrlrec.instructions import templates

HISTORY = ["12 Angry Men (1957)", "Schindler's List (1993)", "Mr. Smith {Goes} to Washington"]
SHOWN = "'12 Angry Men (1957)', 'Schindler's List (1993)', 'Mr. Smith {Goes} to Washington'"
EXPECTED = {
    "sequential": "You are an expert recommender engine. You need to generate a recommendation list considering user's "
    "preference from historical interactions. The historical interactions are provided as follows: " + SHOWN + ". You "
    "need to generate a recommendation list with 7 different items.",
    "sequential, candidates": "You are an expert recommender engine. You need to select a recommendation list "
    "considering user's preference from historical interactions. The historical interactions are provided as follows: "
    + SHOWN
    + ". The candidate items are: 'Ran', 'M'. You need to select a recommendation list with 1 different items from "
    "candidate items.",
    "category": "You are an expert recommender engine. You need to generate a recommendation list simultaneously "
    "considering user's preference inferred from historical interactions and user's intention. If user's preference "
    "conflicts with his intention, you should comply with his intention. Here are user's historical interactions: "
    + SHOWN
    + ", and user's intention: I like 'Action, Adventure' products. You need to generate a recommendation list with 7 "
    "different items.",
    "category, candidates": "You are an expert recommender engine. You need to select a recommendation list from "
    "candidate items simultaneously considering user's preference inferred from historical interactions and user's "
    "intention. If user's preference conflicts with his intention, you should comply with his intention. Here are "
    "user's historical interactions: " + SHOWN + ", and user's intention: I hate 'Drama' items. The candidate items "
    "are: 'Ran', 'M'. You need to select a recommendation list with 1 different items from candidate items.",
    "at most": "You are an expert recommender engine. You need to generate a recommendation list simultaneously "
    "considering user's preference inferred from historical interactions and user's intention. Here are user's "
    "historical interactions: " + SHOWN + ", and user's intention: In the recommendation list, the proportion of "
    "'Drama' items should be less than or equal to 20%. You need to generate a recommendation list with 10 different "
    "items.",
    "at least": "You are an expert recommender engine. You need to generate a recommendation list simultaneously "
    "considering user's preference inferred from historical interactions and user's intention. Here are user's "
    "historical interactions: " + SHOWN + ", and user's intention: In the recommendation list, the proportion of "
    "'Drama' items should be more than or equal to 30%. You need to generate a recommendation list with 10 different "
    "items.",
    "about": "You are an expert recommender engine. You need to generate a recommendation list simultaneously "
    "considering user's preference inferred from historical interactions and user's intention. Here are user's "
    "historical interactions: " + SHOWN + ", and user's intention: In the recommendation list, the proportion of "
    "'Drama' items should be approximately 30%. You need to generate a recommendation list with 10 different items.",
    "search": "You are an expert recommender engine. You need to generate a recommendation list complying user's "
    "intention. Here is user's intention: I would like to buy some 'Comedy' products. Please generate a recommendation "
    "list with 3 different items.",
    "search, candidates": "You are an expert recommender engine. You need to select a recommendation list complying "
    "user's intention from candidate items. Here is user's intention: Please exclude any 'Comedy' item. The candidate "
    "items are: 'Ran', 'M'. Please select a recommendation list with 1 different items from candidate items.",
}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sequential", ("sequential", 7, HISTORY)),
        ("category", ("category_positive", 7, HISTORY, "Action, Adventure")),
        ("at most", ("proportion_at_most", 10, HISTORY, "Drama", 20)),
        ("at least", ("proportion_at_least", 10, HISTORY, "Drama", 30)),
        ("about", ("proportion_about", 10, HISTORY, "Drama", 30)),
        ("search", ("search", 3, (), "Comedy", None, False, 3)),
        ("sequential, candidates", ("sequential", 1, HISTORY, None, None, False, 0, ["Ran", "M"])),
        ("category, candidates", ("category_negative", 1, HISTORY, "Drama", None, False, 5, ["Ran", "M"])),
        ("search, candidates", ("search", 1, (), "Comedy", None, True, 1, ["Ran", "M"])),
    ],
)
def test_prompts_to_the_letter(name: str, arguments: tuple) -> None:
    assert templates.prompt(*arguments) == EXPECTED[name]


def test_intentions_to_the_letter() -> None:
    assert [CONTROLS["positive"].sentence("X", None, number) for number in range(6)] == [
        "I like 'X' products",
        "Please recommend some 'X' items",
        "I'm interested in 'X'",
        "I would like to buy some 'X' products",
        "I would like to browse some 'X' products",
        "I prefer in 'X' item",
    ]
    assert [CONTROLS["negative"].sentence("X", None, number) for number in range(6)] == [
        "I don't like 'X' products",
        "Please exclude any 'X' item",
        "I'm not interested in 'X'",
        "Don't recommend me any 'X' products",
        "I don't want to browse any 'X' product",
        "I hate 'X' items",
    ]


def test_selection_forms_are_those_of_the_listings() -> None:
    tasks = [task for turns in families().values() for task in turns if task != "chat"]
    assert {task for task in tasks if templates.has_selection_form(task)} == {
        "sequential",
        "category_positive",
        "category_negative",
        "search",
    }


def test_an_answer_is_one_numbered_title_a_line() -> None:
    assert templates.answer(["12 Angry Men (1957)", "M"]) == "1. 12 Angry Men (1957)\n2. M"
    assert templates.answer([]) == ""
