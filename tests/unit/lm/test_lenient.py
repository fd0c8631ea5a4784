"""Answers of models that were never taught the form of a list, each in clothes that servers were seen to use."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlrec.lm.lenient import lenient_titles
from ctrlrec.lm.parsing import written_items

TITLES = ["Heat, The (1995)", "12 Angry Men (1957)", "2001: A Space Odyssey", "Spider-Man - Far from Home", "M"]
NUMBERED = "\n".join(f"{number}. {title}" for number, title in enumerate(TITLES, 1))
CLOTHES = {
    "plain": NUMBERED,
    "think": f"<think>\nThe user likes drama. Steps:\n1. Look at the history.\n2. Find more.\n</think>\n\n{NUMBERED}",
    "think open": f"Okay, steps:\n1. Look at the history.\n2. Find similar ones.\n</think>\n\n{NUMBERED}",
    "bold": "\n".join(f"{number}. **{title}**" for number, title in enumerate(TITLES, 1)),
    "italic": "\n".join(f"{number}. *{title}*" for number, title in enumerate(TITLES, 1)),
    "bold, why": "\n".join(f"{number}. **{title}**: you liked it" for number, title in enumerate(TITLES, 1)),
    "quoted, why": "\n".join(f'{number}. "{title}" - it is good' for number, title in enumerate(TITLES, 1)),
    "why": "\n".join(f"{number}. {title} - because you like it" for number, title in enumerate(TITLES, 1)),
    "why below": "\n".join(f"{number}. {title}\n   - because, and so on" for number, title in enumerate(TITLES, 1)),
    "dash, why": "\n".join(f"{number}. {title} — a classic – of its kind" for number, title in enumerate(TITLES, 1)),
    "bullets": "\n".join(f"- {title}" for title in TITLES),
    "dots": "\n".join(f"• {title}" for title in TITLES),
    "bullets, intro": "Here are five:\n\n" + "\n".join(f"* {title}" for title in TITLES) + "\n\nEnjoy!",
    "blank lines": NUMBERED.replace("\n", "\n\n"),
    "colon": "\n".join(f"{number}: {title}" for number, title in enumerate(TITLES, 1)),
    "paren": "\n".join(f"({number}) {title}" for number, title in enumerate(TITLES, 1)),
    "escaped": "\n".join(f"{number}\\. {title}" for number, title in enumerate(TITLES, 1)),
    "full width": "\n".join(f"{number}．{title}" for number, title in enumerate(TITLES, 1)),
    "bold number": "\n".join(f"**{number}.** {title}" for number, title in enumerate(TITLES, 1)),
    "all bold": "\n".join(f"**{number}. {title}**" for number, title in enumerate(TITLES, 1)),
    "backtick": "\n".join(f"{number}. `{title}`" for number, title in enumerate(TITLES, 1)),
    "link": "\n".join(f"{number}. [{title}](https://example.org/{number})" for number, title in enumerate(TITLES, 1)),
    "json": json.dumps(TITLES),
    "json in a fence": "Sure!\n```json\n" + json.dumps({"items": [{"title": title} for title in TITLES]}) + "\n```",
    "fence": f"```\n{NUMBERED}\n```",
    "quoted commas": ", ".join(f"'{title}'" for title in TITLES),
    "commas": ", ".join(TITLES) + ".",
    "no mark": "You may like:\n" + "\n".join(TITLES),
    "line ends": NUMBERED.replace("\n", "\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("clothes", CLOTHES)
def test_the_list_is_read_in_any_clothes(clothes: str) -> None:
    assert lenient_titles(CLOTHES[clothes], TITLES.__contains__) == TITLES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("<think>\n1. First I look at", []),  # cut while it thought
        ("I cannot help with that.", ["I cannot help with that."]),
        ("1. No Such Film - a gem\n2. M", ["No Such Film - a gem", "M"]),  # who knows what is the title
        ("1. M - **bold** claim", ["M"]),
        ("1. 'M'", ["M"]),
        ("[1, 2]\n1. M", ["M"]),
        ("1. **12 Angry Men (1957)", ["**12 Angry Men (1957)"]),
    ],
)
def test_cases(text: str, expected: list[str]) -> None:
    assert lenient_titles(text, TITLES.__contains__) == expected


def test_trained_rows_are_read_as_they_were_taught() -> None:
    assert [item.title for item in written_items("1. **M**\n2. M - why")] == ["**M**", "M - why"]


@pytest.mark.parametrize("clothes", ["think", "think open"])
def test_thinking_is_no_answer_of_any_row(clothes: str) -> None:
    text = CLOTHES[clothes]
    items = written_items(text)
    assert [item.title for item in items] == TITLES
    assert all(text[: item.end].endswith(item.title) for item in items)


def test_thinking_without_an_end_is_no_answer() -> None:
    assert written_items("<think>\n1. Heat\n2. M") == []
    assert [item.title for item in written_items("1. A <think> in a title\n2. No </think> here")] == [
        "A <think> in a title",
        "No </think> here",
    ]


@given(st.text(alphabet=st.sampled_from("ab1.)(*_-`[],:'\"#\\ \n\u2014"), max_size=60) | st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read(text: str) -> None:
    for title in lenient_titles(text, lambda title: len(title) == 3):
        assert "\n" not in title


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "unit", ["1", " ", "1. ", "'", "a, ", "[", "*", "`a", "- ", " - ", "a - ", "**1", "[a](", '",']
)
def test_monstrous_answers_take_no_time(unit: str) -> None:
    lenient_titles("x" + unit * 100_000, lambda title: False)
    lenient_titles(unit * 100_000, lambda title: False)
