"""The page in Chromium: no fault, sorted by keyboard, no sideways scrolling on a phone, whole on paper."""

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from made_pages import make_tables

from ctrlrec.reporting.page.build import NAME

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="Chromium is not installed")

FIRST_COLUMN = "[...document.querySelectorAll('#table5 tbody tr')].map(row => row.children[0].textContent)"
HEADS = "[...document.querySelectorAll('#table5 th[aria-sort]')].map(head => head.getAttribute('aria-sort'))"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tables(tmp_path_factory.mktemp("runs")) / NAME


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    with browser.Browser() as tab:
        yield tab


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_without_a_fault_and_fits(chromium: browser.Browser, page: Path, width: int, dark: bool) -> None:
    chromium.faults.clear()
    chromium.requests.clear()
    chromium.open(page, width=width, dark=dark)
    assert chromium.faults == []
    assert chromium.requests == [page.absolute().as_uri()]
    root = "document.documentElement"
    assert chromium.evaluate("innerWidth") == width
    assert chromium.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
    ground = chromium.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    assert chromium.evaluate("window.alert.name") == "alert"  # nothing of a title ran
    empty = (
        "[...document.querySelectorAll('svg.chart')].filter(chart => chart.getBoundingClientRect().height < 50).length"
    )
    assert chromium.evaluate(empty) == 0


def test_a_table_is_sorted_by_keyboard(chromium: browser.Browser, page: Path) -> None:
    chromium.open(page)
    before = chromium.evaluate(FIRST_COLUMN)
    assert before == ["v1", "v2", "full"]
    chromium.evaluate("document.querySelector('#table5 th button').focus()")
    chromium.press("Tab")  # from the names of the rows to the first number
    assert chromium.evaluate("document.activeElement.textContent") == "CorrectCount (%) ↑"
    chromium.press("Enter")
    assert chromium.evaluate(FIRST_COLUMN) == ["full", "v1", "v2"]
    assert chromium.evaluate(HEADS)[:3] == ["none", "descending", "none"]
    chromium.press(" ")
    assert chromium.evaluate(FIRST_COLUMN) == ["v1", "v2", "full"]
    assert chromium.evaluate(HEADS)[:3] == ["none", "ascending", "none"]
    assert chromium.faults == []


def test_a_table_without_room_scrolls_in_its_own_box(chromium: browser.Browser, page: Path) -> None:
    chromium.open(page, width=390)
    wide = "(box => [box.scrollWidth > box.clientWidth, box.tabIndex])(document.querySelector('#table5 .scroll'))"
    assert chromium.evaluate(wide) == [True, 0]


def test_the_skip_link_leads_to_the_answer(chromium: browser.Browser, page: Path) -> None:
    chromium.open(page)
    chromium.press("Tab")
    assert chromium.evaluate("document.activeElement.textContent") == "Skip to the answer"
    chromium.press("Enter")
    assert chromium.evaluate("location.hash") == "#answer"


def test_the_numbers_can_be_saved(chromium: browser.Browser, page: Path) -> None:
    chromium.open(page)
    saved = """(async () => {
        let found = null;
        HTMLAnchorElement.prototype.click = function () { found = [this.download, fetch(this.href)]; };
        document.getElementById('save').click();
        return [found[0], (await (await found[1]).json()).rows.map(row => row.row)];
    })()"""
    assert chromium.evaluate(saved) == [f"{page.parent.name}.json", ["v1", "v2", "full"]]


def test_everything_is_on_paper(chromium: browser.Browser, page: Path, tmp_path: Path) -> None:
    chromium.open(page, dark=True)
    chromium.paper(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    assert chromium.evaluate("[...document.querySelectorAll('details')].every(part => part.open)")
    chromium.do("Emulation.setEmulatedMedia", media="print", features=[])
    assert chromium.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chromium.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    chromium.do("Emulation.setEmulatedMedia", media="")
