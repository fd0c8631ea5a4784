"""The page as a whole: its parts, its escaping, and that it needs nothing but itself."""

import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_pages import evaluated, good, make_tables

from ctrlrec.reporting.page import __main__ as command
from ctrlrec.reporting.page.build import NAME, page
from ctrlrec.reporting.page.material import Material
from ctrlrec.reporting.report import report
from ctrlrec.reporting.rows import Row

VOID = {"meta", "link", "br", "input"}
EVIL = "<script>alert(\"1\")</script> & 'quoted' 🎬 \x1b[31m"


class Page(HTMLParser):
    """Elements in their order; complains where they do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, tag  # elsewhere HTML ignores the slash
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tables(tmp_path_factory.mktemp("runs"))


def test_a_run_leaves_one_page_with_all_its_parts(made: Path) -> None:
    found = Page((made / NAME).read_text(encoding="utf-8"))
    assert [path.name for path in made.glob("*.html")] == [NAME] and not list(made.glob("*.png"))
    sections = [attributes["id"] for attributes in found.all("section")]
    assert sections == ["run", "answer", "tables", "comparisons", "curves", "reward", "tradeoff", "families", "cases",
                        "reproduce"]  # fmt: skip
    links = {attributes["href"] for attributes in found.all("a")}
    assert links == {f"#{section}" for section in sections}
    tables = [attributes["id"] for attributes in found.all("figure") if attributes.get("class") == "table"]
    assert tables == ["rows", "table1", "table2", "table3", "table4", "table5", "differences", "family0",
                      "differences0"]  # fmt: skip
    assert len(found.text["h3"]) >= 3 and "What RL removes" in found.text["h3"]
    assert sum("Clerks" in text for text in found.text["b"]) == 4  # two users, two settings


def test_every_identity_is_one_and_every_figure_is_described(made: Path) -> None:
    found = Page((made / NAME).read_text(encoding="utf-8"))
    identities = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    for drawing in found.all("svg"):
        assert drawing.get("aria-hidden") == "true" or (drawing["role"] == "img" and drawing["aria-label"])
    charts = [drawing for drawing in found.all("svg") if drawing.get("role") == "img"]
    described = [text for text in found.text["desc"] if text.strip()]
    assert len(charts) == len(described) == 2 + 4 + 1 + 3  # pairs, curves, parts of the reward, scatters
    for head in found.all("th"):
        assert head["scope"] in ("col", "row", "colgroup")
    assert len(found.all("button")) == 1 + sum(head.get("aria-sort") == "none" for head in found.all("th"))


def test_the_page_needs_nothing_but_itself(made: Path) -> None:
    text = (made / NAME).read_text(encoding="utf-8")
    found = Page(text)
    for tag, attributes in found.elements:
        assert not {"src", "srcset", "data", "action", "onclick", "onload"} & attributes.keys(), tag
        assert tag not in ("link", "iframe", "img", "object", "base")
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert not re.findall(r"https?://(?!www\.w3\.org/)", text)
    assert "xmlns" not in text


def test_text_of_data_and_models_is_shown_and_never_read_as_markup(made: Path) -> None:
    text = (made / NAME).read_text(encoding="utf-8")
    found = Page(text)
    assert len(found.all("script")) == 2 and "\x1b" not in text
    shown = "".join(found.text["span"])
    assert "<script>alert(\"1\")</script> & 'quoted' 🎬" in shown
    numbers = json.loads("".join(found.text["script"][:1]))
    assert [row["row"] for row in numbers["rows"]] == ["v1", "v2", "full"]
    assert numbers["comparisons"][0]["better"] == "v2"


def test_a_hostile_name_of_a_row_stays_text() -> None:
    name = "a<b>&\"'\n\x1b[31m</script><script>alert(1)</script>"
    cell = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    numbers = {"sequential": {"HR@10": cell}, "about_30": {"HR@10": cell, "CPA": cell}}
    made = {
        "row": name, "seed": 0, "dataset": name, "n": 9, "confidence": 0.95, "git_commit": name, "settings": numbers,
        "command": shlex.join(["python", "-m", "ctrlrec", f"dataset.name={name}", "output=/home/me/runs"]),
    }  # fmt: skip
    curves = {"sl": {(name, 0): {"train/loss": {0: 1.0, 1: 0.5}}}}
    text = page(Material(name, [made], [Row(name, numbers)], curves=curves, unlike=[name]), [name, "/home/me/runs/x"])
    parsed = Page(text)
    assert len(parsed.all("script")) == 2 and "\x1b" not in text and "/home/me" not in text
    assert parsed.text["h1"] == ["a<b>&\"' [31m</script><script>alert(1)</script>"]
    assert json.loads("".join(parsed.text["script"][:1]))["rows"][0]["row"] == name


def test_each_item_of_a_case_says_what_it_is(made: Path) -> None:
    text = (made / NAME).read_text(encoding="utf-8")
    case = text[text.index('<article class="case">') : text.index("</article>")]
    lists = {part[: part.index("<")]: part for part in case.split("<h4>")[1:]}
    assert list(lists) == ["v1", "v2", "full"]
    assert re.findall(r'<li class="(\w*)">', lists["v2"]) == ["target", "repeat", "history", "nonexistent", "excess"]
    assert re.findall(r'<li class="(\w*)">', lists["full"]) == ["target", "inside", "inside"]
    marks = re.findall(r"</span> ([a-z ]+)</span>", lists["v2"])
    assert marks[:4] == ["the target", "in the category", "the target", "in the category"] and "repeated" in marks
    assert "−1.00" in lists["v2"] and "list reward" in lists["v2"]


def test_a_page_of_any_runs_is_made_by_one_command(made: Path, tmp_path: Path, capsys: Any) -> None:
    runs = made.parents[1]
    assert command.main([str(runs / "evaluate"), "-o", str(tmp_path / "all.html")]) == 0
    whole = Page((tmp_path / "all.html").read_text(encoding="utf-8"))
    assert command.main([str(made), "-o", str(tmp_path / "tables.html")]) == 0
    same = Page((tmp_path / "tables.html").read_text(encoding="utf-8"))
    assert same.text["figcaption"] == whole.text["figcaption"] and same.all("section") == whole.all("section")
    one = [str(runs / "evaluate" / "v2-0"), "-o", str(tmp_path / "one.html"), "--user", "u3"]
    assert command.main(one) == 0
    found = Page((tmp_path / "one.html").read_text(encoding="utf-8"))
    assert found.text["h4"] == ["v2", "v2"] and "comparisons" not in [part.get("id") for part in found.all("section")]
    assert capsys.readouterr().out.split() == [str(tmp_path / f"{name}.html") for name in ("all", "tables", "one")]


def test_tables_whose_results_are_gone_still_make_a_page(made: Path, tmp_path: Path) -> None:
    alone = tmp_path / "tables" / made.name
    shutil.copytree(made, alone)
    assert command.main([str(alone)]) == 0
    sections = [part["id"] for part in Page((alone / NAME).read_text(encoding="utf-8")).all("section")]
    assert "tables" in sections and "comparisons" in sections and "cases" not in sections


def test_unlike_rows_are_said_to_be_unlike(tmp_path: Path) -> None:
    evaluated(tmp_path, "v2", good)
    evaluated(tmp_path, "full", good, "sl.epochs=77")
    command.main([str(tmp_path), "-o", str(tmp_path / "page.html")])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "different settings" in text and "full, seed 0: sl.epochs=77, unlike v2, seed 0" in text


@pytest.mark.parametrize(("words", "said"), [
    (["nowhere"], "no finished evaluation there; give folders of runs/evaluate"),
    (["--user", "nobody", "."], "nobody was not asked"),
])  # fmt: skip
def test_what_cannot_be_shown_is_one_clear_error(
    tmp_path: Path, monkeypatch: Any, capsys: Any, words: list[str], said: str
) -> None:
    evaluated(tmp_path, "v2", good)
    monkeypatch.chdir(tmp_path)
    assert command.main(words) == 1
    assert said in capsys.readouterr().err


def test_the_rows_of_the_paper_stand_beside_ours_on_its_data(tmp_path: Path) -> None:
    config, directory = evaluated(tmp_path, "full", good, "dataset=steam")
    text = (report(config, directory) / NAME).read_text(encoding="utf-8")
    assert '<tr class="paper"><th scope="row">full (paper)</th>' in text and "0.1001" in text
    assert "the paper&#39;s own, on the same data" in text
