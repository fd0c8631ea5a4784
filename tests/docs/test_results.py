"""The tables of README and docs/results.md hold the numbers of the kept rows, and links lead somewhere."""

import json
import re
from pathlib import Path
from statistics import mean

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
KEPT = json.loads((ROOT / "experiments/movielens_100k-llama_mini-small/rows.json").read_text(encoding="utf-8"))
COLUMNS = (
    ("sequential", "HR@10"), ("category_positive", "TCP@10"), ("category_negative", "TCP@10"),
    ("at_most_20", "CPA"), ("about_30", "CPA"), ("at_least_30", "CPA"),
)  # fmt: skip


def over_seeds(row: str, setting: str, metric: str) -> float:
    return mean(kept["settings"][setting][metric]["value"] for kept in KEPT if kept["row"] == row)


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_table_is_that_of_the_kept_rows(page: str) -> None:
    lines = re.findall(
        r"^\| (teacher|v1|v2|v3|full) \| (.*) \|$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [row for row, _ in lines] == ["teacher", "v1", "v2", "v3", "full"]
    for row, written in lines:
        cells = [cell.strip() for cell in written.split("|")]
        if row == "teacher":
            assert cells == [f"{over_seeds('sasrec', *COLUMNS[0]):.3f}", *[""] * 5]
            continue
        wanted = [f"{over_seeds(row, *COLUMNS[0]):.3f}"]
        for setting, metric in COLUMNS[1:]:
            free = f" ({100 * over_seeds(row, setting, 'TCP@10_free'):.1f})" if metric == "TCP@10" else ""
            wanted.append(f"{100 * over_seeds(row, setting, metric):.1f}{free}")
        assert cells == wanted


def test_the_demo_in_the_readme_is_that_of_the_kept_rows() -> None:
    rows = json.loads((ROOT / "experiments/movielens_600-llama_nano-ten_minutes/rows.json").read_text(encoding="utf-8"))
    kept = list(dict.fromkeys(row["row"] for row in rows))

    def percent(row: str, setting: str, metric: str) -> str:
        return f"{100 * mean(one['settings'][setting][metric]['value'] for one in rows if one['row'] == row):.1f}"

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ([\w+]+_soft[\w+]*) \| (.*) \|$", text, re.MULTILINE)
    assert [row for row, _ in lines] == kept == ["v1_soft", "v2_soft", "full_soft", "full_soft+fresh"]
    repeats = [("sequential", "RepeatItem@K"), ("category_positive", "RepeatItem@K"), ("sequential", "HR@10")]
    for row, written in lines:
        wanted = []
        for setting, metric in [*COLUMNS[1:], *repeats]:
            free = f" ({percent(row, setting, 'TCP@10_free')})" if metric == "TCP@10" else ""
            wanted.append(f"{percent(row, setting, metric)}{free}")
        assert [cell.strip() for cell in written.split("|")] == wanted


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_page_of_the_site_is_in_its_index_and_in_the_readme() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert pages == set(re.findall(r"\]\((\w+\.md)\)", index))
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f": {name}" in navigation for name in pages)


def test_the_readme_fits_a_few_screens() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130
