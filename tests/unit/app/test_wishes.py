import numpy as np
import pytest

from ctrlrec.app.wishes import Wish, check_possible, condition_of, option_of, read_wish, unknown_title, wish_of
from ctrlrec.controls.registry import CONTROLS
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError

GENRES = [("Comedy",), ("Comedy", "Drama"), ("Drama",), ("Horror",), ("Drama",), ("Comedy",)]
TITLES = ("Fargo (1996)", "Twister (1996)", "Evita (1996)", "Scream (1996)", "Heat (1995)", "Big (1988)")
CATALOGUE = Catalogue(tuple("abcdef"), TITLES, tuple(GENRES), tuple(names[-1] for names in GENRES), (1,) * 6)
SCORES = np.arange(6, 0, -1, dtype=float)


@pytest.mark.parametrize(
    ("kind", "text", "wish"),
    [
        ("positive", "Comedy", Wish("positive", "Comedy")),
        ("negative", " Film-Noir ", Wish("negative", "Film-Noir")),
        ("at_most", "Drama 30%", Wish("at_most", "Drama", 30)),
        ("at_least", "Drama  30 %", Wish("at_least", "Drama", 30)),
        ("about", "War, Old 5%", Wish("about", "War, Old", 5)),
        ("about", "1990 to 1999 50%", Wish("about", "1990 to 1999", 50)),
        ("positive", "Drama 30%", Wish("positive", "Drama 30%")),
    ],
)
def test_words_become_wishes(kind: str, text: str, wish: Wish) -> None:
    assert read_wish(kind, text) == wish


@pytest.mark.parametrize("text", ["Drama", "30%", "Drama 30", "Drama thirty%", "Drama -3%", ""])
def test_a_share_needs_its_percentage(text: str) -> None:
    with pytest.raises(CtrlRecError, match="--at-most 'Drama 30%'"):
        read_wish("at_most", text)


def test_every_control_has_an_option_and_says_itself() -> None:
    options = {"--more": "positive", "--none": "negative", "--at-most": "at_most", "--at-least": "at_least"}
    assert {option_of(kind): kind for kind in CONTROLS} == options | {"--about": "about"}
    assert str(Wish("at_most", "Drama", 30)) == "at most 30% Drama"
    assert str(Wish("negative", "Horror")) == "none of Horror"


def test_a_wish_becomes_a_condition_of_the_catalogue_and_back() -> None:
    condition = condition_of(Wish("at_least", "drama", 40), CATALOGUE)
    assert (condition.control, condition.category, condition.proportion) == (CONTROLS["at_least"], "Drama", 40)
    assert wish_of(condition) == Wish("at_least", "Drama", 40)


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("positive", "Comdy"), "more of Comdy: no such category; did you mean 'Comedy'?"),
        (Wish("positive", "Xyz"), "there are: Comedy, Drama, Horror"),
        (Wish("positiv", "Comedy"), "no control 'positiv'; did you mean 'positive'?"),
        (Wish("at_most", "Drama"), "expected a percentage from 0 to 100"),
        (Wish("at_most", "Drama", 101), "expected a percentage from 0 to 100"),
        (Wish("positive", "Drama", 30), "takes no percentage"),
    ],
)
def test_a_wrong_wish_is_refused_with_what_is_right(wish: Wish, said: str) -> None:
    with pytest.raises(CtrlRecError) as caught:
        condition_of(wish, CATALOGUE)
    assert said in str(caught.value)


def test_near_misses_of_a_title_are_suggested() -> None:
    assert "did you mean 'Fargo (1996)'?" in str(unknown_title("fargo", CATALOGUE))
    assert "'Twister (1996)'" in str(unknown_title("The Twister", CATALOGUE))
    assert "did you mean" not in str(unknown_title("Qqqq", CATALOGUE))


def check(k: int, *wishes: Wish, history: tuple[int, ...] = ()) -> None:
    check_possible([condition_of(wish, CATALOGUE) for wish in wishes], k, SCORES, history, CATALOGUE)


def test_what_a_list_can_meet_is_let_through() -> None:
    check(6)
    check(3, Wish("positive", "Comedy"))
    check(2, Wish("positive", "Comedy"), history=(0,))
    check(4, Wish("at_least", "Comedy", 50), Wish("at_most", "Horror", 0))


@pytest.mark.parametrize(
    ("k", "wishes", "history", "said"),
    [
        (0, [], (), "0 items: expected a number from 1 to 6"),
        (6, [], (2,), "6 items: expected a number from 1 to 5, the items outside the history"),
        (4, [Wish("positive", "Comedy")], (), "no list of 4 items meets 'more of Comedy'"),
        (3, [Wish("positive", "Comedy")], (1,), "there are 2 items in Comedy and 3 others"),
        (2, [Wish("positive", "Comedy"), Wish("negative", "Comedy")], (), "meets all of: more of Comedy; none of Com"),
        (2, [Wish("positive", "Horror")] + [Wish("negative", "Comedy")] * 4, (), "at most 4"),
    ],
)
def test_an_impossible_demand_is_named(k: int, wishes: list[Wish], history: tuple[int, ...], said: str) -> None:
    with pytest.raises(CtrlRecError) as caught:
        check(k, *wishes, history=history)
    assert said in str(caught.value)
