import base64
import html
import json
import re
from urllib.parse import parse_qsl

import pytest

from ctrlrec import Outcome, Recommendation, RecommendedItem, Wish
from ctrlrec.app.answer_page import error_page, page_of
from ctrlrec.app.playground import fields_of, question_of
from ctrlrec.app.questions import Question
from ctrlrec.errors import CtrlRecError

WISH = Wish("at_most", "Drama", 30)
ANSWER = Recommendation(
    (
        RecommendedItem("<b>Heat</b>", None, (), None, "nonexistent", -1.0),
        RecommendedItem("Evita (1996)", "Evita (1996)", ("Drama", "Musical"), 3, None, 0.5),
        RecommendedItem("Evita (1996)", "Evita (1996)", ("Drama", "Musical"), 3, "repeat", -1.0),
    ),
    (Outcome(WISH, 2, False),),
    *(("Fargo (1996)",), "196", "Evita (1996)", 3, "none", -0.25, "prompt", "1. ...", "<model>"),
)


def test_a_page_says_what_each_item_is_and_shows_no_markup_of_a_model() -> None:
    page = page_of(ANSWER)
    assert "<b>" not in page and "&lt;b&gt;Heat&lt;/b&gt;" in page and "&lt;model&gt;" in page
    assert [re.sub("<.*?>", "", item).count("invented") for item in page.split("<li>")[1:]] == [1, 0, 0]
    assert page.count("listed before") == 1 and page.count("taken next") == 2
    assert "2 of 3" in page and "at most 30% Drama: " in page and "not met" in page
    assert "Shares" not in page_of(ANSWER, finished=False)


def test_a_page_carries_the_answer_as_json() -> None:
    (data,) = re.findall(r'href="data:application/json;base64,([^"]+)"', page_of(ANSWER))
    assert json.loads(base64.b64decode(data)) == json.loads(json.dumps(ANSWER.record()))


def test_an_empty_answer_and_an_error_are_said() -> None:
    nothing = Recommendation((), (), ("A",), None, None, 3, "none", 0.0, "p", "", "m")
    assert "Nothing was written." in page_of(nothing) and nothing.satisfied
    assert html.escape("'<x>'") in error_page("no item '<x>'")


@pytest.mark.parametrize(
    "question",
    [
        Question(user="196"),
        Question(("Fargo (1996)", "Twister & Co: 100%"), None, (WISH, Wish("negative", "War, Old: I")), 3, "none"),
    ],
)
def test_a_question_survives_its_link_and_its_fields(question: Question) -> None:
    assert Question.of_link(parse_qsl(question.link().removeprefix("?"))) == question
    again = question_of(*fields_of(question))
    assert again.asked() | {"controls": ()} == question.asked() | {"controls": ()}
    assert set(again.wishes) == set(question.wishes)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ([("k", "many")], "k=many: expected a number"),
        ([("k", "99999999999")], "expected a number"),
        ([("wish", "at_most")], "wish=at_most: expected kind:percent:category"),
        ([("wish", "at_most:x:Drama")], "expected kind:percent:category"),
        ([("title", "x" * 5000)], "longer than 4096"),
    ],
)
def test_a_broken_link_is_refused(query: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(CtrlRecError, match=said):
        Question.of_link(query)
