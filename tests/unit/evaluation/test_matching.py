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
        ("", 5),  # two edits: the rule knows no exception
    ],
)
def test_closest_title_within_three_edits(written, item):
    assert TitleMatcher(TITLES, 3)(written) == item


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
    st.lists(st.text("abc", max_size=6), min_size=1, max_size=12, unique=True),
    st.text("abc", max_size=7),
    st.integers(0, 3),
)
def test_agrees_with_a_search_through_all_titles(titles, written, max_edits):
    distances = [Levenshtein.distance(written, title) for title in titles]
    expected = distances.index(min(distances)) if min(distances) <= max_edits else None
    assert TitleMatcher(titles, max_edits)(written) == expected


@given(st.text(max_size=200) | st.sampled_from(TITLES).flatmap(lambda title: st.text(max_size=3).map(title.__add__)))
def test_any_text_is_an_item_near_by_or_none(written):
    item = TitleMatcher(TITLES, 3)(written)
    assert item is None or Levenshtein.distance(written, TITLES[item]) <= 3


@pytest.mark.parametrize("max_edits", [0, 3])
def test_outer_quotes_of_a_title_are_no_part_of_it(max_edits: int) -> None:
    """Answers lose theirs: a title of that very name is nearer than any other."""
    matcher = TitleMatcher(['"Weird"', "Weirdo", '"M"', "M"], max_edits)
    assert [matcher(title) for title in ("Weird", "Weirdo", '"Weird"', "M", '"M"')] == [0, 1, 0, 3, 2]
