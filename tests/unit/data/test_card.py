"""The data card tells what is in a dataset, what was left out, and how far the paper's datasets agree."""

import json

import pytest
from dataset_files import items, records

from ctrlrec.config.compose import compose
from ctrlrec.data import card

ROWS = [(user, f"i{n}", n) for user in "ab" for n in range(4)]


@pytest.fixture
def report(load, tmp_path):
    metadata = [
        *items(4),
        json.dumps({"item": "x", "categories": ["C"]}),
        json.dumps({"item": "y", "title": "Y", "categories": ["C"]}),
        json.dumps({"item": "z", "title": "Title 3", "categories": ["Drama"]}),
    ]
    strays = [("a", "x", 9), ("c", "i0", 1), ("", "i0", 1), ("d", "x", 1), ("a", "z", 9)]
    records(tmp_path / "in", [*ROWS, *strays], metadata)
    return load("records").report


def test_the_numbers_are_those_of_the_data(report):
    kept = report["kept"]
    assert (kept["users"], kept["items"], kept["interactions"], kept["sparsity"]) == (2, 4, 8, 0.0)
    assert kept["sequence_length"] == {"min": 4, "median": 4.0, "mean": 4.0, "max": 4, "powers_of_two": [0, 0, 2]}
    assert kept["test_history_length"]["max"] == 3
    assert kept["items_never_trained"] == 2
    assert kept["categories"]["largest"] == {"Drama": 4}
    assert kept["test_targets"]["distinct_items"] == 1
    assert kept["test_targets"]["categories_covered"] == 1.0
    assert report["k_core"]["short_users"] == 1


def test_the_card_is_written_as_json_markdown_and_picture(report, tmp_path, capsys):
    card.save(report, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    text = (tmp_path / "card.md").read_text()
    assert "| records | 2 | 4 | 8 | 0.00% |" in text
    assert "| item without title | 1 | items.jsonl:5 |" in text
    assert "| interaction without user | 1 | interactions.csv:12 |" in text
    assert (tmp_path / "card.png").read_bytes().startswith(b"\x89PNG")
    assert "| of these users, with fewer than the 3 interactions that the split takes | 1 |  |" in text
    card.show(report)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"interactions.csv {report['files'][0]['sha256']}" in shown
    assert "of these users, with fewer than the 3 interactions that the split takes 1" in shown


def test_nothing_is_lost_between_what_was_read_and_what_is_kept(report):
    read, kept, dropped, core = (report[part] for part in ("read", "kept", "dropped", "k_core"))
    without, unknown, unmet, repeated = dropped.values()
    assert read["users"] == kept["users"] + core["users_dropped"] + without
    assert read["interactions"] == kept["interactions"] + core["interactions_dropped"] + unknown + repeated
    assert read["items"] == kept["items"] + core["items_dropped"] + unmet + report["titles"]["merged"]
    assert min(without, unknown, unmet, repeated, core["users_dropped"], report["titles"]["merged"]) > 0


def test_the_picture_shows_every_user_and_every_category_once(report):
    panels = card.figure(report).axes
    assert [sum(bar.get_height() for bar in axes.patches) for axes in panels] == [2, 1]
    labels = [[label.get_text() for label in axes.get_xticklabels()] for axes in panels]
    assert labels == [["4-7"], ["4-7"]], "the first bar is the first that is not empty"


def test_the_papers_datasets_go_by_the_names_and_limits_of_their_configurations():
    for name, printed in card.TABLE_1.items():
        dataset = compose(f"dataset={name}").dataset
        assert (dataset.name, dataset.min_user_interactions, dataset.min_item_interactions) == (name, 25, 10)
        users, items_, interactions, sparsity = printed
        assert 1 - interactions / (users * items_) == pytest.approx(sparsity, abs=1e-4)


def test_names_from_the_data_stay_text(report, tmp_path, capsys):
    hostile = "<svg onload=x>|*b* [a](http://b) \x1b[31m$x_1$"
    report["dataset"] = hostile
    report["kept"]["categories"]["largest"] = {hostile: 4}
    card.save(report, tmp_path)  # the picture's title, too: a stray $ is not a formula
    text = card.markdown(report)
    assert "<svg" not in text.replace(r"\<svg", "") and "\x1b" not in text
    assert r"\<svg onload=x\>\|\*b\* \[a\](http\://b)" in text
    card.show(report)
    assert "\x1b[31m" not in capsys.readouterr().out


def test_the_papers_datasets_show_table_1_and_the_difference(report):
    report["dataset"] = "steam"
    assert "paper" not in card.markdown(report)  # records of one's own that have the name
    report["source"] = "steam"
    text = card.markdown(report)
    assert "| paper, Table 1 | 12,658 | 8,572 | 632,900 | 99.42% |" in text
    assert "| difference | -12,656 | -8,568 | -632,892 | -99.42 points |" in text
