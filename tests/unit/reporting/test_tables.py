import csv
import re
import sys

import pytest
from evaluations import CATALOGUE, record
from rich.console import Console

from ctrlrec.config.compose import compose, plain
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.metrics import metrics_of
from ctrlrec.evaluation.scoring import score
from ctrlrec.reporting import columns, paper, render, tables
from ctrlrec.reporting.rows import Row, in_order
from ctrlrec.reporting.summary import summary
from ctrlrec.runtime.escaping import inert

HOSTILE = "a|b & 100% $x_1^2$ #{~} \\ *bold* `code` <b>[red]<script>\n\x1b[31m‮-- =1+1"


def cell(value, n=7):
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": n}


def metrics(shift=0.0):
    accuracy = {"HR@5": 0.1, "HR@10": 0.2, "NDCG@5": 0.05, "NDCG@10": 0.06, "CorrectCount": 0.9, "NonExist@K": 0.3}
    shares = {"TCP@10": 0.8, "TCP@10_free": 0.1}
    settings = {
        "sequential": accuracy,
        "category_positive": accuracy | shares,
        "category_negative": accuracy | shares,
        "at_most_20": accuracy | {"CPA": 0.5, "CPA_free": 0.25, "CPA_literal": 0.6},
        "formatting": {
            "HR@K": 0.2, "NDCG@K": 0.1, "CorrectCount": 0.9, "RepeatItem@K": 0.4, "NonExist@K": 0.3, "InHistory@K": 0.2,
        },
    }  # fmt: skip
    return {name: {m: cell(v + shift) for m, v in found.items()} for name, found in settings.items()}


def test_marks_follow_the_direction_and_printed_equals_are_equal():
    assert columns.marks(["0.1", "0.3", "0.2"], falling=False) == ["", "best", "second"]
    assert columns.marks(["0.1", "0.3", "0.2"], falling=True) == ["best", "", "second"]
    assert columns.marks(["0.3", "0.3", "0.1", "0.2"], falling=False) == ["best", "best", "", "second"]
    assert columns.marks(["9.5", "10.0", None], falling=False) == ["second", "best", ""]
    assert columns.marks(["0.3", None], falling=False) == ["", ""]
    assert columns.marks([], falling=False) == []
    assert columns.marks(["0.0", "0.0", None], falling=False) == ["", "", ""]  # all as bad as each other


def test_rows_stand_as_in_the_paper():
    names = ["other", "full", "v1", "zero_shot", "sasrec", "gpt35", "palr"]
    assert [row.name for row in in_order(Row(name, {}) for name in names)] == [
        "sasrec", "gpt35", "zero_shot", "palr", "v1", "full", "other",
    ]  # fmt: skip


def test_a_row_stands_where_its_own_result_says():
    place = {"order": 65, "hidden": ["table4"], "unranked": ["table2"], "own_backbone": False, "compared_with": []}
    mine = Row("mine", metrics(0.2), recorded=place)
    grid = tables.build(2, [Row("full", metrics(0.1)), mine, Row("v1", metrics())])
    assert [(labels[0], cells[0].mark) for labels, cells in grid.rows] == [
        ("v1", "second"), ("mine", ""), ("full", "best"),
    ]  # fmt: skip
    assert tables.build(4, [mine]) is None


def test_a_group_says_over_how_many_each_of_its_numbers_is():
    row = metrics()
    row["general"] = {"MMLU": cell(0.3, n=114), "GSM8K": cell(0.1, n=2)}
    grid = tables.build(5, [Row("full", row), Row("v2", metrics())])
    counts = [at for at, head in enumerate(grid.heads) if head == "n"]
    assert [[cells[at].value for at in counts] for _, cells in grid.rows] == [["7", "7", ""], ["7", "7", "114 / 2"]]


def test_markdown_of_table_3():
    text = render.markdown(tables.build(3, [Row("full", metrics(0.1)), Row("v2", metrics())]))
    assert text.splitlines()[2:] == [
        "| Row | I1+C HR@10 ↑ | I1+C NDCG@10 ↑ | I1+C TCP@10 (%) ↑ | I1+C n"
        " | I1-C HR@10 ↑ | I1-C NDCG@10 ↑ | I1-C TCP@10 (%) ↓ | I1-C n |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| v2 | <ins>0.2000</ins> <sub>[0.1900, 0.2100]</sub> | <ins>0.0600</ins> <sub>[0.0500, 0.0700]</sub>"
        " | <ins>80.00</ins> (10.00) <sub>[79.00, 81.00]</sub> | 7"
        " | <ins>0.2000</ins> <sub>[0.1900, 0.2100]</sub> | <ins>0.0600</ins> <sub>[0.0500, 0.0700]</sub>"
        " | **80.00** (10.00) <sub>[79.00, 81.00]</sub> | 7 |",
        "| full | **0.3000** <sub>[0.2900, 0.3100]</sub> | **0.1600** <sub>[0.1500, 0.1700]</sub>"
        " | **90.00** (20.00) <sub>[89.00, 91.00]</sub> | 7"
        " | **0.3000** <sub>[0.2900, 0.3100]</sub> | **0.1600** <sub>[0.1500, 0.1700]</sub>"
        " | <ins>90.00</ins> (20.00) <sub>[89.00, 91.00]</sub> | 7 |",
    ]


def test_latex_of_table_4_keeps_the_groups_that_have_numbers():
    text = render.latex(tables.build(4, [Row("v2", metrics()), Row("full", metrics(0.1))]))
    assert r"\begin{tabular}{lrrrr}" in text
    assert r" & \multicolumn{4}{c}{$\le$20\%} \\" in text
    assert r"Row & HR@10 $\uparrow$ & NDCG@10 $\uparrow$ & CPA (\%) $\uparrow$ & n \\" in text
    assert r"\textbf{60.00} (35.00) {\scriptsize {[}59.00, 61.00{]}} & 7 \\" in text
    assert [rule for rule in (r"\toprule", r"\midrule", r"\bottomrule") if text.count(rule) == 1]


def test_teacher_is_a_row_of_table_2_alone():
    rows = [Row("sasrec", metrics(0.1)), Row("v2", metrics())]
    assert [labels for labels, _ in tables.build(2, rows).rows] == [("sasrec",), ("v2",)]
    assert [labels for labels, _ in tables.build(5, rows).rows] == [("v2",)]
    assert tables.build(3, rows[:1]) is None


def test_a_row_of_several_seeds_says_what_its_interval_is():
    grid = tables.build(2, [Row("v1", metrics()), Row("full", metrics(0.1), (0, 1, 2))])
    assert grid.caption.endswith("the interval over n users; of a row of several seeds, over these and the seeds.")
    assert [labels for labels, _ in grid.rows] == [("v1",), ("full (3 seeds)",)]


def test_comma_separated_cells_are_numbers_or_quoted_text():
    cells = (render.Cell("+1.2", "", "[-0.4, +2.8]"), render.Cell(), render.Cell("=1+1"))
    grid = render.Grid("", ("Row",), (), ("a", "b", "-c"), ((("-row",), cells),))
    assert list(csv.reader(render.comma_separated(grid).splitlines())) == [
        ["Row", "a", "b", "'-c"], ["'-row", "+1.2 [-0.4, +2.8]", "", "'=1+1"],
    ]  # fmt: skip


def test_the_api_row_does_not_compete_in_table_5():
    grid = tables.build(5, [Row("gpt35", metrics(0.05)), Row("v2", metrics()), Row("full", metrics(0.01))])
    assert [cells[0].mark for _, cells in grid.rows] == ["", "second", "best"]
    named = tables.build(5, [Row("v2", metrics()), Row("api gpt", metrics(0.05)), Row("full", metrics(0.01))])
    assert [(row[0], cells[0].mark) for row, cells in named.rows] == [
        ("api gpt", ""), ("v2", "second"), ("full", "best"),
    ]  # fmt: skip


def test_published_numbers_are_whole_and_stand_below():
    assert paper.published_rows(8, "Movie") == []  # ours alone
    for number, table in paper.TABLES.items():
        if number == 8:
            continue
        width = sum(len(column.names) for column in table.columns)
        for dataset in ("Movie", "Steam"):
            rows = paper.published_rows(number, dataset)  # refuses a row of another width
            assert len(rows) == (9 if number == 2 else 8)
            assert width >= max(sum(map(len, row.settings.values())) for row in rows)
            for row in rows:
                assert all(0 <= value["value"] <= 1 for found in row.settings.values() for value in found.values())
    (printed,) = (row.settings["category_negative"] for row in paper.published_rows(3, "MOVIE") if row.name == "full")
    assert printed["TCP@10"]["value"] == pytest.approx(0.1149)
    assert printed["TCP@10_free"]["value"] == pytest.approx(0.3841)
    grid = tables.build(3, [Row("full", metrics()), Row("v2", metrics(0.1))], published="Movie")
    label, cells = grid.rows[-1]
    assert label == ("full (paper)",)
    assert [(c.value, c.free, c.interval, c.mark) for c in cells[:4]] == [
        ("0.2336", "", "", ""), ("0.1574", "", "", ""), ("93.52", "7.81", "", ""), ("", "", "", ""),
    ]  # fmt: skip
    assert cells[0].mark == "" and grid.rows[1][1][0].mark == "second"
    assert paper.published_rows(3, "movielens_100k") == []


def test_csv_holds_the_numbers_in_full(tmp_path):
    paths = tables.write_tables(
        [Row("full", metrics()), Row(HOSTILE, metrics(0.1)), Row("=cmd()", metrics())], tmp_path / "new"
    )
    assert {path.name for path in paths} == {
        f"table{n}{kind}" for n in (2, 3, 4, 5) for kind in (".md", ".tex", ".csv")
    }
    with (tmp_path / "new" / "table3.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["row"] == "full"
    assert rows[0]["category_positive/TCP@10_free/value"] == "0.1"
    assert rows[0]["category_positive/TCP@10/n"] == "7"
    assert rows[2]["row"] == inert(HOSTILE)  # of two rows without a file, by name
    assert rows[1]["row"] == "'=cmd()"
    assert not list((tmp_path / "new").glob("*.tmp"))


def test_two_rows_of_one_name_are_refused(tmp_path):
    with pytest.raises(CtrlRecError, match="two rows have one name"):
        tables.write_tables([Row("full", metrics()), Row("full", metrics())], tmp_path)


def test_hostile_names_stay_text():
    grid = tables.build(2, [Row(HOSTILE, metrics()), Row("v2", metrics(0.1))])
    shown = inert(HOSTILE)
    assert shown.isprintable() and "\x1b" not in shown

    row = render.markdown(grid).splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", row)) == 7
    assert "<script" not in row.replace(r"\<script", "")
    assert r"\*bold\* \`code\` \<b\>\[red\]" in row

    row = next(line for line in render.latex(grid).splitlines() if "bold" in line)
    assert len(re.findall(r"(?<!\\)&", row)) == 5
    assert row.startswith(
        r"a\textbar{}b \& 100\% \$x\_1\textasciicircum{}2\$ \#\{\textasciitilde{}\} \textbackslash{} {*}bold{*}"
    )
    assert r"\textless{}b\textgreater{}{[}red{]}" in row

    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render.terminal(grid))
    assert shown in console.export_text()


def test_seeds_are_told():
    assert Row("v2", metrics(), (0, 1, 2)).label == "v2 (3 seeds)"
    assert Row("v2", metrics(), (0,)).label == "v2"


def silent(shift=0.0, value=0.0, high=0.012):
    """A row that hardly ever answers with the number of items asked for, and is best by saying nothing."""
    settings = metrics(shift)
    for found in settings.values():
        found["CorrectCount"] = {"value": value, "low": 0.0, "high": high, "n": 300}
    settings["category_negative"]["TCP@10"] = cell(0.0)
    settings["at_most_20"]["CPA"] = cell(1.0)
    return settings


@pytest.mark.parametrize(("value", "high"), [(0.0, 0.168), (0.03, 0.049)])
def test_a_row_that_says_nothing_is_never_marked(value, high):
    """Few users leave a wide interval around 0, and many a narrow one around a few percent: both are silence."""
    ours = [Row("zero_shot", silent(0.2, value, high)), Row("v2", metrics()), Row("full", metrics(-0.01))]
    for number in (2, 3, 4, 5):
        grid = tables.build(number, ours)
        marked = {labels[0]: {shown.mark for shown in cells} for labels, cells in grid.rows}
        assert marked["zero_shot"] == {""}, number
        assert "best" in marked["v2"]
        assert grid.caption.endswith("are not marked.")
    grid = summary(ours)
    assert {cells[0].mark for _, cells in grid.rows} == {""} and grid.caption.endswith("are not marked.")
    talkative = [Row("zero_shot", silent(0.2, 0.2, 0.3)), *ours[1:]]
    assert tables.build(3, talkative).rows[0][1][6].mark == "best"
    assert "not marked" not in tables.build(3, talkative).caption


def test_repeats_of_what_was_written_stand_beside_those_of_what_was_asked_for():
    row = metrics()
    row["formatting"] |= {"RepeatWritten@K": cell(0.6)}
    grid = tables.build(5, [Row("v2", row)])
    shown = dict(zip(grid.full_heads(), (shown.value for shown in grid.rows[0][1]), strict=True))
    assert shown["Formatting RepeatItem@K (%) ↓"] == "40.00" and shown["Formatting RepeatWritten@K (%) ↓"] == "60.00"


def test_a_number_of_an_earlier_definition_has_a_footnote_and_does_not_compete(tmp_path):
    row = metrics(-0.2)
    row["category_negative"]["TCP@10"] |= {"note": "as printed"}
    ours = [Row("v1", row), Row("v2", metrics()), Row("full", metrics(0.1))]
    grid = tables.build(3, ours)
    assert grid.notes == ("a: as printed",)
    assert [(cells[6].value, cells[6].note, cells[6].mark) for _, cells in grid.rows] == [
        ("60.00", "a", ""), ("80.00", "", "best"), ("90.00", "", "second"),
    ]  # fmt: skip
    assert "60.00<sup>a</sup> (-10.00)" in render.markdown(grid)
    assert render.markdown(grid).endswith("\n\na: as printed\n")
    assert r"60.00\textsuperscript{a}" in render.latex(grid) and r"\par a: as printed" in render.latex(grid)
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render.terminal(grid))
    text = console.export_text()
    assert "60.00 a" in text and "a: as printed" in text
    tables.write_tables(ours, tmp_path)
    (first, *_) = csv.DictReader((tmp_path / "table3.csv").read_text().splitlines())
    assert first["category_negative/TCP@10/note"] == "as printed" and first["category_positive/TCP@10/note"] == ""


PLUGIN = """
from ctrlrec.evaluation.metrics import Metric

def letters(answer):
    return float(sum(map(len, answer.titles)))

METRICS = (
    Metric("Letters", letters, lower_is_better=True, unit="letters", settings=("sequential",)),
    Metric("Same", lambda answer: 1.0, unit="", columns=("about_30",)),
)
"""


def test_two_metrics_of_one_name_are_refused(tmp_path, monkeypatch):
    (tmp_path / "evaluation" / "metrics").mkdir(parents=True)
    (tmp_path / "evaluation" / "metrics" / "mine.py").write_text(PLUGIN.replace("Letters", "HR@10"))
    monkeypatch.setenv("CTRLREC_PLUGINS", str(tmp_path))
    monkeypatch.delitem(sys.modules, "ctrlrec.evaluation.metrics.mine", raising=False)
    with pytest.raises(CtrlRecError, match=r"mine\.py: accuracy\.py defines HR@10 in setting sequential too"):
        metrics_of("sequential")
    assert set(metrics_of("about_30")) > {"HR@10", "Same"}


def test_a_metric_is_one_file(tmp_path, monkeypatch):
    """Computed, with an interval, and shown with its own unit and direction, by its file alone."""
    (tmp_path / "evaluation" / "metrics").mkdir(parents=True)
    (tmp_path / "evaluation" / "metrics" / "letters.py").write_text(PLUGIN)
    monkeypatch.setenv("CTRLREC_PLUGINS", str(tmp_path))
    rows = []
    for name, answer in (("v2", ("Clerks", "Jaws", "Babe")), ("full", ("E.T.", "Jaws", "Babe"))):
        records = [record(setting, user, answer) for setting in ("sequential", "about_30") for user in range(4)]
        rows.append(Row(name, score(records, CATALOGUE, 50, 0.95, 0)["settings"]))
    assert rows[0].cell("sequential", "Letters") == {"value": 14, "low": 14, "high": 14, "n": 4}
    assert rows[0].cell("about_30", "Letters") is None
    table_2 = tables.build(2, rows)
    place = table_2.heads.index("Letters (letters) ↓")
    assert [(cells[place].value, cells[place].mark) for _, cells in table_2.rows] == [
        ("14.00", "second"),
        ("12.00", "best"),
    ]
    assert "Same ↑" not in table_2.heads
    assert any(head == "Same ↑" for head in tables.build(4, rows).heads)
    lines = {labels[1]: cells for labels, cells in summary(rows).rows}
    assert [shown.value for shown in lines["Letters (letters) ↓"]] == ["14.0", "12.0", "4"]
    assert [shown.value for shown in lines["Same ↑"]] == ["100.0", "100.0", "4"]


def test_summary_sets_rows_side_by_side():
    grid = summary([Row("full", metrics(0.1)), Row("sasrec", metrics(0.2)), Row("zero_shot", metrics())])
    assert grid.heads == ("sasrec", "zero_shot", "full", "n")
    labels = [labels for labels, _ in grid.rows]
    assert [setting for setting, _ in labels if setting] == [
        "sequential", "category_positive", "category_negative", "at_most_20", "formatting",
    ]  # fmt: skip
    lines = {(label, index): cells for index, ((_, label), cells) in enumerate(grid.rows)}
    tcp = next(cells for (label, _), cells in lines.items() if label == "TCP@10 ↑")
    assert [(c.value, c.free, c.interval, c.mark) for c in tcp] == [
        ("100.0", "30.0", "±1.0", ""), ("80.0", "10.0", "±1.0", "second"), ("90.0", "20.0", "±1.0", "best"),
        ("7", "", "", ""),
    ]  # fmt: skip
    falling = next(cells for (label, _), cells in lines.items() if label == "TCP@10 ↓")
    assert [c.mark for c in falling] == ["", "best", "second", ""]


def test_summary_of_three_rows_fits_a_narrow_terminal():
    grid = summary([Row("zero_shot", metrics(-0.04)), Row("v2", metrics()), Row("full", metrics(0.1))])
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(render.terminal(grid))
    text = console.export_text()
    assert "…" not in text
    assert re.search(r"TCP@10 ↑ +76\.0 \(6\.0\) ±1\.0 +80\.0 \(10\.0\) ±1\.0 +90\.0 \(20\.0\) ±1\.0", text)


def test_missing_numbers_show_as_a_dash():
    bare = {"sequential": {"HR@10": cell(0.1)}}
    text = render.markdown(tables.build(2, [Row("v1", bare), Row("v2", metrics())]))
    assert "| v1 | <ins>0.1000</ins> <sub>[0.0900, 0.1100]</sub> | - | - | - | 7 |" in text


def test_the_row_of_the_teacher_alone_is_called_by_its_teacher() -> None:
    """It stands first in Table 2, in no other table, and competes for no mark of the summary."""
    assert compose("variant=sasrec").variant.name == "sasrec"
    variant = compose("variant=sasrec", "teacher=gru4rec").variant
    assert variant.name == "gru4rec"
    rows = [Row("v2", metrics()), Row("gru4rec", metrics(0.1), recorded=plain(variant.table))]
    assert [labels for labels, _ in tables.build(2, rows).rows] == [("gru4rec",), ("v2",)]
    for number in (3, 4, 5):
        assert [labels for labels, _ in tables.build(number, rows).rows] == [("v2",)]
    grid = summary(rows)
    assert grid.heads == ("gru4rec", "v2", "n")
    assert not any(cells[0].mark for _, cells in grid.rows)


def test_table_8_shows_what_following_several_conditions_costs():
    cell = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 7}
    names = ("HR@10", "NDCG@10", "all_satisfied", "all_satisfied_free", "satisfied", "violation", "regret")
    few, many = ({"blend_2": {name: cell | {"value": value} for name in names}} for value in (0.25, 0.75))
    grid = tables.build(8, [Row("full", few), Row("full_blend", many)])
    assert [head.partition(" ")[0] for head in grid.heads] == [
        "HR@10", "NDCG@10", "all_satisfied", "satisfied", "violation", "regret", "n",
    ]  # fmt: skip
    cells = dict(zip(grid.heads, grid.rows[1][1], strict=True))
    assert cells["all_satisfied (%) ↑"].value == "75.00" and cells["all_satisfied (%) ↑"].free == "75.00"
    assert cells["violation (items) ↓"].mark == "second"  # fewer violations are better
    assert cells["regret (of the best) ↓"].value == "0.75"
    assert r"all\_satisfied" in render.latex(grid)
