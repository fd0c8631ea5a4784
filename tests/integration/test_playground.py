"""The page of ``ctrlrec app`` over a finished row, asked as a browser asks it."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from ctrlrec import Recommender, Wish
from ctrlrec.app import playground
from ctrlrec.app.questions import Question

pytest.importorskip("gradio")
from gradio_client import Client

NOTHING = playground.fields_of(Question())


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def test_a_page_asks_what_its_fields_say_and_grows_item_by_item(client: Client, recommender: Recommender) -> None:
    question = Question(user=recommender.users[0], wishes=(Wish("positive", "Comedy"), Wish("about", "Drama", 40)), k=5)
    expected = recommender.recommend(**question.asked())
    job = client.submit(*playground.fields_of(question), api_name="/ask_0")
    page, prompt, raw = job.result()
    assert (prompt, raw) == (expected.prompt, expected.response)
    for item in expected.items:
        assert item.title in page
    assert f'data-items="{len(expected.items)}"' in page and "Save as JSON" in page
    grown = [output[0].split('data-items="')[1].split('"')[0] for output in job.outputs()]
    assert grown == sorted(grown, key=int) and len(set(grown)) > 2
    assert client.predict(*playground.fields_of(question), api_name="/ask_1")[1] == prompt


def test_a_link_holds_the_question(client: Client, address: str, recommender: Recommender) -> None:
    question = Question(
        recommender.titles[2:5], None, (Wish("at_most", "Drama", 40), Wish("negative", "Horror")), 7, "none"
    )
    link = client.predict(*playground.fields_of(question), api_name="/link")
    assert link.startswith(address)
    again = Question.of_link(parse_qsl(urlsplit(link).query))
    assert playground.fields_of(again) == playground.fields_of(question)
    assert requests.get(link, timeout=30).status_code == 200


def test_two_people_at_once_get_their_own_answers(address: str, recommender: Recommender) -> None:
    def ask(user: str) -> tuple[Any, ...]:
        fields = playground.fields_of(Question(user=user, k=4))
        return Client(address, verbose=False).predict(*fields, api_name="/ask_0")

    users = recommender.users[:4]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, users))
    for user, (_, prompt, raw) in zip(users, found, strict=True):
        expected = recommender.recommend(user=user, k=4)
        assert (prompt, raw) == (expected.prompt, expected.response)


def test_an_error_stands_in_the_place_of_the_answer(client: Client) -> None:
    page, prompt, raw = client.predict(*NOTHING, api_name="/ask_0")
    assert 'role="alert"' in page and "expected a history of titles or a user" in page and (prompt, raw) == ("", "")


@pytest.mark.parametrize("path", ["/etc/passwd", "pyproject.toml", "ctrlrec/__init__.py"])
def test_no_file_is_served(address: str, path: str) -> None:
    assert requests.get(f"{address}gradio_api/file={path}", timeout=30).status_code in (403, 404)


def test_the_page_loads_nothing_from_elsewhere(address: str) -> None:
    page = requests.get(address, timeout=30).text
    loaded = re.findall(r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=["']([^"']+)""", page)
    assert loaded and not [place for place in loaded if "://" in place or place.startswith("//")]
    config = requests.get(f"{address}config", timeout=30).json()
    assert (config["stylesheets"], config["analytics_enabled"]) == ([], False)
    assert "http" not in re.sub(r"http://www\.w3\.org", "", requests.get(f"{address}theme.css", timeout=30).text)
