"""The page of ``ctrlrec app`` in Chromium: a click path for each feature, as a reader goes it."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import browser
import pytest

from ctrlrec import Recommender, Wish
from ctrlrec.app.questions import Question

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not installed")

BUTTON = "[...document.querySelectorAll('button')].find(one => one.textContent.trim().startsWith({}))"
FIELD = "document.querySelector('input[aria-label={}]')"
ANSWERS = "[...document.querySelectorAll('.answer')]"
TITLES = f"{ANSWERS}.map(one => [...one.querySelectorAll('li')].map(item => item.firstChild.textContent.trim()))"
LINK = "[...document.querySelectorAll('textarea, input')].map(one => one.value).find(text => text.startsWith('http'))"
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}


class Page:
    """The page as a reader meets it."""

    def __init__(self, tab: browser.Browser, address: str):
        self.tab, self.address = tab, address

    def open(self, query: str = "", size: str = "desktop") -> None:
        self.tab.faults.clear()
        self.tab.requests.clear()
        width, height = SIZES[size]
        self.tab.open(self.address + query, width, height)
        self.tab.wait(f"{BUTTON.format(json.dumps('Ask'))}?.disabled === false")

    def click(self, text: str) -> None:
        self.tab.evaluate(f"{BUTTON.format(json.dumps(text))}.click()")

    def choose(self, label: str, *texts: str) -> None:
        """Type into a field that completes, and take what it offers first."""
        for text in texts:
            self.tab.evaluate(f"{FIELD.format(json.dumps(label))}.focus()")
            self.tab.evaluate(f"{FIELD.format(json.dumps(label))}.select()")
            self.tab.type(text)
            # Before what was typed takes effect, all options are there.
            first = "document.querySelector('[role=option]')?.textContent"
            self.tab.wait(f"{first}?.includes({json.dumps(text)})")
            self.tab.press("Enter")
        self.tab.evaluate("document.activeElement.blur()")

    def set(self, label: str, number: int) -> None:
        """Write a number into the box of a slider."""
        boxes = "[...document.querySelectorAll('input[type=number]')]"
        box = f"{boxes}.find(one => one.ariaLabel.includes({json.dumps(label)}))"
        self.tab.evaluate(f"{box}.focus(), {box}.select()")
        self.tab.type(str(number))
        self.tab.evaluate(f"{box}.blur()")

    def ask(self) -> str:
        """Ask, wait for both answers and return the link to the question."""
        self.tab.evaluate(f"{ANSWERS}.forEach(one => one.remove())")  # of an earlier question
        self.click("Ask")
        self.tab.wait("document.querySelectorAll('.answer a[download]').length == 2")
        self.tab.wait(f"({LINK} ?? '') != ''")
        assert self.tab.faults == []
        return self.tab.evaluate(LINK)


def asked(link: str) -> Question:
    return Question.of_link(parse_qsl(urlsplit(link).query))


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    with browser.Browser() as tab:
        yield Page(tab, address)


def test_a_user_is_chosen_and_both_rows_answer_side_by_side(page: Page, recommender: Recommender) -> None:
    page.open()
    user = recommender.users[3]
    page.choose("User of the data", user)
    page.set("Number of items", 4)
    assert asked(page.ask()) == Question(user=user, k=4)
    expected = [item.item or item.title for item in recommender.recommend(user=user, k=4).items]
    assert page.tab.evaluate(TITLES) == [expected, expected]
    left, right = page.tab.evaluate(f"{ANSWERS}.map(one => one.getBoundingClientRect().toJSON())")
    assert left["top"] == right["top"] and left["right"] <= right["left"]


def test_a_history_is_built_by_typing_titles(page: Page, recommender: Recommender) -> None:
    page.open()
    titles = (recommender.titles[4], recommender.titles[1])
    page.choose("User of the data", "nobody")
    page.choose("History, oldest first", *titles)
    assert asked(page.ask()) == Question(titles, k=10)


def test_chips_of_several_controls_are_one_question(page: Page, recommender: Recommender) -> None:
    page.open(f"?user={recommender.users[0]}")
    one, other, third, *_ = recommender.categories
    page.choose("More of", one)
    page.choose("None of", other)
    page.choose("At most a share of", third)
    page.set("At most, percent", 40)
    link = page.ask()
    assert asked(link).wishes == (Wish("positive", one), Wish("negative", other), Wish("at_most", third, 40))
    shares = page.tab.evaluate(f"[...{ANSWERS}[0].querySelectorAll('tr')].map(row => row.innerText)")
    for category in (one, other, third):
        (line,) = [share for share in shares if share.startswith(category)]
        assert "met" in line and "of 10" in line


def test_a_constraint_keeps_an_answer_to_the_catalogue(page: Page, recommender: Recommender) -> None:
    page.open(f"?user={recommender.users[1]}")
    found = {}
    for constraint in ("fresh", "none"):
        page.tab.evaluate(
            "[...document.querySelectorAll('label')].find(one => one.textContent.trim() == "
            f"{json.dumps(constraint)}).click()"
        )
        question = asked(page.ask())
        assert question.constraint == constraint
        found[constraint] = page.tab.evaluate(TITLES)[0]
        expected = recommender.recommend(**question.asked()).items
        assert found[constraint] == [item.item or item.title for item in expected]
    assert set(found["fresh"]) <= set(recommender.titles) and len(set(found["fresh"])) == 10


def test_a_link_opens_the_same_question(page: Page, recommender: Recommender) -> None:
    wishes = (Wish("positive", next(iter(recommender.categories))),)
    question = Question(recommender.titles[:2], None, wishes, 3, "fresh")
    page.open(question.link())
    assert asked(page.ask()) == question


def test_prompt_raw_answer_and_numbers_can_be_taken_along(page: Page, recommender: Recommender) -> None:
    user = recommender.users[2]
    page.open(f"?user={user}&k=3")
    page.ask()
    expected = recommender.recommend(user=user, k=3)
    link = page.tab.evaluate("document.querySelector('.answer a[download]').href")  # data, not an address
    saved = json.loads(page.tab.evaluate(f"fetch({json.dumps(link)}).then(found => found.text())"))
    assert saved == json.loads(json.dumps(expected.record()))
    page.click("Prompt and raw answer")
    texts = "[...document.querySelectorAll('textarea')].map(one => one.value)"
    page.tab.wait(f"{texts}.includes({json.dumps(expected.prompt)})")
    assert expected.response in page.tab.evaluate(texts)


@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_and_asks_nothing_elsewhere(
    page: Page, recommender: Recommender, size: str, tmp_path: Path
) -> None:
    page.open(f"?user={recommender.users[0]}&k=3", size)
    page.ask()
    width, _ = SIZES[size]
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    here = urlsplit(page.address).netloc
    assert {urlsplit(unquote(place)).netloc for place in page.tab.requests if not place.startswith("data:")} == {here}
    boxes = page.tab.evaluate(f"{ANSWERS}.map(one => one.getBoundingClientRect().toJSON())")
    assert all(box["width"] > 250 and box["right"] <= width for box in boxes)
    assert (boxes[0]["top"] == boxes[1]["top"]) == (size == "desktop")  # below each other on a phone
    fields = page.tab.evaluate(
        "[...document.querySelectorAll('input[role=combobox]')].map(one => one.getBoundingClientRect().width)"
    )
    assert min(fields) > 100
    page.tab.picture(tmp_path / "page.png")
    from PIL import Image

    with Image.open(tmp_path / "page.png") as picture:
        assert picture.width <= width < picture.height * (2 if size == "desktop" else 1)
        assert len(picture.convert("L").getcolors()) > 20  # more than a blank page
