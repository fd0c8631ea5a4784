import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from ctrlrec.evaluation.matching import TitleMatcher

TITLES = ["Toy Story (1995)", "Toy Story 2 (1999)", "Heat (1995)", "Heat (1996)", "Se7en (1995)", "Up"]


@pytest.mark.parametrize(
    ("written", "item"),
    [
        ("Toy Story (1995)", 0),
        ("Toy Story (1995", 0),
        ("toy story (1995)", 0),
        ("Toy Stroy (1995)", 0),
        ("Heat (1997)", 2),  # one edit from both: the lower index
        ("Heat (1996)", 3),  # exact comes before close
        ("Seven (1995)", 4),
        ("Toy Story 2", None),  # seven edits
        ("The Heat (1995)", None),  # four edits
        ("Heat (195)", 2),
        ("Heat (19)", 2),
        ("Heat (9)", None),  # three edits are more than a quarter of eleven characters
        ("Up", 5),
        ("Ux", None),  # a title of fewer than four characters forgives nothing
        ("", None),
    ],
)
def test_closest_title_within_three_edits(written, item):
    assert TitleMatcher(TITLES, 3)(written) == item


@pytest.mark.parametrize("written", ["", "xyz", "FT", "FTLX", "ftl"])
def test_a_title_of_three_letters_forgives_nothing(written):
    assert TitleMatcher(["FTL", "Heat"], 3)(written) is None


def test_each_title_forgives_its_own_number_of_edits():
    """The nearest title may forgive less than one that is further away."""
    titles = ["abcdefg", "abcdefghijkl"]
    assert Levenshtein.distance("abcdefghi", titles[0]) == 2
    assert TitleMatcher(titles, 3)("abcdefghi") == 1


def test_zero_edits_is_exact():
    matcher = TitleMatcher(TITLES, 0)
    assert matcher("Heat (1995)") == 2
    assert matcher("Heat (1995) ") is None


def test_answers_are_the_same_when_asked_again():
    matcher = TitleMatcher(TITLES, 3)
    assert [matcher("Haet (1995)"), matcher("Haet (1995)"), matcher("nothing like it"), matcher("nothing like it")] == [
        2,
        2,
        None,
        None,
    ]


@given(
    st.lists(st.text("abc", min_size=1, max_size=14), min_size=1, max_size=12, unique=True),
    st.text("abc", max_size=15),
    st.integers(0, 3),
)
def test_agrees_with_a_search_through_all_titles(titles, written, max_edits):
    distances = [Levenshtein.distance(written, title) for title in titles]
    near = [
        (distance, item)
        for item, distance in enumerate(distances)
        if distance <= max_edits and distance <= len(titles[item]) / 4
    ]
    assert TitleMatcher(titles, max_edits)(written) == (min(near)[1] if near and written else None)


@given(st.text(max_size=200) | st.sampled_from(TITLES).flatmap(lambda title: st.text(max_size=3).map(title.__add__)))
def test_any_text_is_an_item_near_by_or_none(written):
    item = TitleMatcher(TITLES, 3)(written)
    assert item is None or Levenshtein.distance(written, TITLES[item]) <= min(3, len(TITLES[item]) / 4)


@pytest.mark.parametrize("max_edits", [0, 3])
def test_outer_quotes_of_a_title_are_no_part_of_it(max_edits: int) -> None:
    """Answers lose theirs: a title of that very name is nearer than any other."""
    matcher = TitleMatcher(['"Weird"', "Weirdo", '"M"', "M"], max_edits)
    assert [matcher(title) for title in ("Weird", "Weirdo", '"Weird"', "M", '"M"')] == [0, 1, 0, 3, 2]
