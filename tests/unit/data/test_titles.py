"""A title is found by what an answer writes, whatever its quotes and its Unicode normal form."""

import json

import pytest
from dataset_files import records, titles

from ctrlrec.data.titles import AnswerIndex, innermost
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.lm.parsing import bare_title

DECOMPOSED, COMPOSED = "Ame\u0301lie \u1112\u1161\u11ab", "Am\u00e9lie \ud55c"


@pytest.mark.parametrize("kept", [DECOMPOSED, COMPOSED])
@pytest.mark.parametrize("written", [DECOMPOSED, COMPOSED])
@pytest.mark.parametrize("edits", [0, 3])
def test_the_normal_form_does_not_count(kept, written, edits):
    assert AnswerIndex(["Other", kept]).get(written) == 1
    matcher = TitleMatcher(["Other", kept], edits)
    assert matcher(written) == 1
    assert matcher(written.replace("A", "E")) == (1 if edits else None)


def test_titles_and_categories_are_kept_composed(load, tmp_path):
    row = {"item": "i0", "title": DECOMPOSED, "categories": ["Come\u0301die", "Com\u00e9die"]}
    rows = [row, {"item": "i1", "title": COMPOSED, "categories": ["C"]}]
    rows += [{"item": f"i{n}", "title": f"T{n}", "categories": ["C"]} for n in (2, 3)]
    records(tmp_path / "in", [("a", f"i{n}", n) for n in range(4)], map(json.dumps, rows))
    catalogue = load("records").catalogue
    assert catalogue.titles == (COMPOSED, "T2", "T3")
    assert catalogue.categories[0] == ("Com\u00e9die", "C")


@pytest.mark.parametrize(
    ("title", "inner"),
    [("Heroes", "Heroes"), ('"Heroes"', "Heroes"), ("'\"Heroes\"'", "Heroes"), ("\u201cHeroes\u201d", "Heroes"),
     ("' Heroes '", "Heroes"), ("O'Brien's", "O'Brien's"), ("'Til Death", "'Til Death"), ('Say "x"', 'Say "x"')],
)  # fmt: skip
def test_titles_lose_all_their_outer_quotes(title, inner):
    assert innermost(title) == inner


def test_titles_that_differ_only_in_outer_quotes_are_one_item(load, tmp_path):
    names = ['"Heroes"', "Heroes", "'Heroes'", "Other", "'Til Death", "Third"]
    rows = [{"item": f"i{n}", "title": name, "categories": [f"C{n}"]} for n, name in enumerate(names)]
    interactions = [("a", f"i{n}", n) for n in range(6)] + [("b", f"i{n}", n) for n in (1, 3, 5)]
    records(tmp_path / "in", interactions, map(json.dumps, rows))
    prepared = load("records")
    assert prepared.catalogue.titles == ('"Heroes"', "Other", "'Til Death", "Third")
    assert prepared.catalogue.categories[0] == ("C0", "C1", "C2")
    assert titles(prepared)["b"] == ['"Heroes"', "Other", "Third"]
    for item, title in enumerate(prepared.catalogue.titles):
        for line in (f"1. {title}", f"2. '{title}'", f'3. "{title}"'):
            assert prepared.catalogue.answer_index.get(bare_title(line)) == item
