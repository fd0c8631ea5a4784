"""Prompts to the letter of Listings 1 to 6."""

import pytest

from ctrlrec.controls.instruction import Task
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
        ("sequential", (Task.SEQUENTIAL, 7, HISTORY)),
        ("category", (Task.CATEGORY_POSITIVE, 7, HISTORY, "Action, Adventure")),
        ("at most", (Task.PROPORTION_AT_MOST, 10, HISTORY, "Drama", 20)),
        ("at least", (Task.PROPORTION_AT_LEAST, 10, HISTORY, "Drama", 30)),
        ("about", (Task.PROPORTION_ABOUT, 10, HISTORY, "Drama", 30)),
        ("search", (Task.SEARCH, 3, (), "Comedy", None, False, 3)),
        ("sequential, candidates", (Task.SEQUENTIAL, 1, HISTORY, None, None, False, 0, ["Ran", "M"])),
        ("category, candidates", (Task.CATEGORY_NEGATIVE, 1, HISTORY, "Drama", None, False, 5, ["Ran", "M"])),
        ("search, candidates", (Task.SEARCH, 1, (), "Comedy", None, True, 1, ["Ran", "M"])),
    ],
)
def test_prompts_to_the_letter(name: str, arguments: tuple) -> None:
    assert templates.prompt(*arguments) == EXPECTED[name]


def test_intentions_to_the_letter() -> None:
    assert [templates.intention("X", False, number) for number in range(6)] == [
        "I like 'X' products",
        "Please recommend some 'X' items",
        "I'm interested in 'X'",
        "I would like to buy some 'X' products",
        "I would like to browse some 'X' products",
        "I prefer in 'X' item",
    ]
    assert [templates.intention("X", True, number) for number in range(6)] == [
        "I don't like 'X' products",
        "Please exclude any 'X' item",
        "I'm not interested in 'X'",
        "Don't recommend me any 'X' products",
        "I don't want to browse any 'X' product",
        "I hate 'X' items",
    ]


def test_selection_forms_are_those_of_the_listings() -> None:
    assert {task for task in Task if task != Task.CHAT and templates.has_selection_form(task)} == {
        Task.SEQUENTIAL,
        Task.CATEGORY_POSITIVE,
        Task.CATEGORY_NEGATIVE,
        Task.SEARCH,
    }


def test_an_answer_is_one_numbered_title_a_line() -> None:
    assert templates.answer(["12 Angry Men (1957)", "M"]) == "1. 12 Angry Men (1957)\n2. M"
    assert templates.answer([]) == ""
