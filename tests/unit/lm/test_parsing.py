"""Whatever a model writes becomes titles, each with the place where it ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlrec.instructions import templates
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.parsing import bare_title, last_tokens, written_items


def titles(text: str) -> list[str]:
    return [item.title for item in written_items(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1. Heat\n2. M", ["Heat", "M"]),
        ("1. 12 Angry Men (1957)\n2. 2001: A\n3. 1984", ["12 Angry Men (1957)", "2001: A", "1984"]),
        ("1) Heat\n2) M", ["Heat", "M"]),
        ("  1 . Heat  \n\n\n 2.M", ["Heat", "M"]),
        ("Heat\nM", ["Heat", "M"]),
        ("1. 'Heat'\n2. \"M\"\n3. \u201cRan\u201d\n4. \u2018Babe\u2019", ["Heat", "M", "Ran", "Babe"]),
        ("Here you are:\n1. Heat\n2. M\nEnjoy!", ["Heat", "M"]),
        ("1. Heat\nsomething between\n2. M", ["Heat", "something between", "M"]),
        ("1. Heat\r\n2. M\r\n", ["Heat", "M"]),
        ("", []),
        ("  \n \n", []),
        ("1. ", [""]),
        ("10. Heat", ["Heat"]),
        ("12345. Heat", ["12345. Heat"]),
        ("1. 3. Liga", ["3. Liga"]),  # one index is taken off, not two
        ("1. 'Til There Was You", ["'Til There Was You"]),  # a quote alone is part of the title
        ("1. Schindler's List", ["Schindler's List"]),
        ("1. Amélie\n2. 千と千尋の神隠し\n3. Stalker 🎬", ["Amélie", "千と千尋の神隠し", "Stalker 🎬"]),
    ],
)  # fmt: skip
def test_cases(text: str, expected: list[str]) -> None:
    assert titles(text) == expected


@pytest.mark.parametrize("title", ["12 Angry Men (1957)", "101 Dalmatians", "8 1/2", "1984", "2001: A Space Odyssey"])
def test_a_leading_number_is_no_index(title: str) -> None:
    assert bare_title(title) == title


@given(st.text(alphabet=st.sampled_from("ab1.) '\"\n\r\t\u201c\u201d\u2028é🎬"), max_size=60) | st.text(max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read(text: str) -> None:
    items = written_items(text)
    assert [item.end for item in items] == sorted({item.end for item in items})
    for item in items:
        assert 0 < item.end <= len(text)
        assert item.title == item.title.strip()
        assert "\n" not in item.title
        # The item's text ends there: a visible character is the last, and the title is part of its line.
        assert not text[item.end - 1].isspace()
        assert item.title in text[: item.end]
    assert len(items) <= len(text.split("\n"))


@given(
    st.lists(
        st.text(alphabet=st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1)
        .map(str.strip)
        .filter(lambda title: title and title[0] not in "'\"\u2018\u201c"),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=200, deadline=None)
def test_answers_in_our_form_are_read_back(listed: list[str]) -> None:
    assert titles(templates.answer(listed)) == listed


@given(st.lists(st.integers(0, 511), max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_tokens_give_places_within_the_answer(chat_format: ChatFormat, tokens: list[int]) -> None:
    """What an untrained model samples: special tokens anywhere, characters cut in half."""
    text = chat_format.decode(tokens)
    items = written_items(text)
    found = last_tokens(chat_format.written, tokens, text, [item.end for item in items])
    assert len(found) == len(items)
    assert found == sorted(found)
    assert all(0 <= place < len(tokens) for place in found)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ["1", " ", "1.", "\n", "\n1. '", "'", "9999 ", "1 .", "\u3000", "1\u2028", "\u0661. "])
def test_monstrous_answers_take_no_time(unit: str) -> None:
    text = unit * 200_000
    assert len(written_items(text)) <= text.count("\n") + 1


def test_catalogue_titles_survive_quoting_and_numbering(catalogue) -> None:
    for title in catalogue.titles:
        assert titles(f"1. {title}") == [title]
        assert titles(f"7. '{title}'") == [title]
    assert titles(templates.answer(catalogue.titles)) == list(catalogue.titles)
