import json
import shutil

import pytest
from evaluations import CATALOGUE, record, write_evaluation

from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.scoring import mean_over_seeds, paired_differences, summarise_differences
from ctrlrec.reporting import cases
from ctrlrec.reporting.aggregate import read_results
from ctrlrec.reporting.comparisons import comparison_grid, comparisons, pooled
from ctrlrec.reporting.data_tables import table_1, table_7, write_data_tables
from ctrlrec.reporting.render import markdown
from ctrlrec.reporting.report import report


def config(root, *overrides):
    return compose(f"output={root}", "logger=csv", *overrides)


@pytest.fixture
def evaluate(tmp_path):
    def make(name, answer, *overrides, **options):
        settings = config(tmp_path, "evaluation.bootstrap_resamples=200", *overrides)
        return settings, write_evaluation(tmp_path, name, settings, answer, **options)

    return make


def good(setting, user):
    return ("Clerks", "E.T.", "Fargo")


def bad(setting, user):
    return ("Alien", "Alien", "No Such Film")


def test_a_run_reports_all_finished_rows_that_belong_together(tmp_path, evaluate, capsys):
    evaluate("zero", bad, "variant=zero_shot")
    evaluate("v2", bad, "variant=v2", "rl.iterations=77")
    evaluate("v1-another", good, "variant=v1", "sl.epochs=77")
    (tmp_path / "evaluate" / "v3.partial").mkdir()
    (tmp_path / "evaluate" / "v3.partial" / "metrics.json").write_text("{}")
    for attempt in (0, 1):
        log = tmp_path / "rl" / "made" / "logs" / f"attempt_{attempt}" / "metrics.csv"
        log.parent.mkdir(parents=True)
        log.write_text("step,reward/total\n0,1\n1,2\n")
    settings, directory = evaluate("full", good, "variant=full")

    folder = report(settings, directory)

    text = (folder / "table2.md").read_text()
    assert [line.split(" | ")[0] for line in text.splitlines()[4:]] == ["| zero\\_shot", "| v2", "| full"]
    assert "**100.0** <sub>±30.1</sub>" in (folder / "summary.md").read_text()
    assert {path.name for path in folder.iterdir()} == {
        "beyond_accuracy.md",
        *(f"comparisons-beyond_accuracy.{form}" for form in ("md", "tex", "csv")),
        *(f"table{number}{form}" for number in (2, 4) for form in (".md", ".tex", ".csv")),
        *(f"comparisons{form}" for form in (".md", ".tex", ".csv", ".json")),
        "table6.md",
        "summary.md",
        "rows.json",
        "report.html",
    }
    printed = capsys.readouterr().out
    assert "Table 2 of the paper" in printed
    assert printed.index("Did it help?") > printed.index("Table 4 of the paper")
    made = json.loads((folder / "rows.json").read_text())
    assert [(row["row"], row["n"], row["seed"]) for row in made] == [("zero_shot", 4, 0), ("v2", 4, 0), ("full", 4, 0)]
    assert made[2]["stages"]["rl"]["git_commit"] == "0rl" and made[1]["config"]["rl"]["iterations"] == 77
    assert made[2]["settings"] == json.loads((directory / "metrics.json").read_text())["settings"]


def test_a_page_of_a_family_that_no_row_has_numbers_of_goes(evaluate, monkeypatch):
    settings, directory = evaluate("v2", good, "variant=v2")
    page = report(settings, directory) / "beyond_accuracy.md"
    caption, paper = (path.read_text() for path in (page, page.with_name("summary.md")))
    assert "Percent unless a unit is named; a (b)" in caption and "Did it help? Percent; a (b)" in paper
    monkeypatch.setattr("ctrlrec.reporting.report.write_families", lambda *_: [])
    report(settings, directory)
    assert not page.exists() and not list(page.parent.glob("comparisons*"))


def test_a_model_that_was_deleted_leaves_its_row(evaluate, tmp_path):
    settings, directory = evaluate("full", good, "variant=full")
    shutil.rmtree(tmp_path / "sl")
    (row,) = json.loads((report(settings, directory) / "rows.json").read_text())
    assert row["stages"]["sl"]["git_commit"] is None and row["stages"]["rl"]["git_commit"] == "0rl"


def test_seeds_become_one_row(evaluate):
    evaluate("one", bad, "variant=v2", "seed=1")
    settings, directory = evaluate("two", good, "variant=v2", "seed=2")
    assert "v2 (2 seeds)" in (report(settings, directory) / "table2.md").read_text()


def test_seeds_of_rl_become_one_row_beside_the_one_row_of_sl(evaluate, caplog):
    """Seed 0 of RL is that of the run, so its result has the name that it has without ``rl.seed``."""
    caplog.set_level("INFO")
    evaluate("v2", bad, "variant=v2", "rl.seed=1")
    evaluate("v3", bad, "variant=v3", "rl.seed=1")
    usual, first = evaluate("full0", good, "variant=full")
    evaluate("full1", bad, "variant=full", "rl.seed=1")
    settings, directory = evaluate("full2", good, "variant=full", "rl.seed=2")
    whole = ["full-whole", "v2-whole"]
    for name in whole:
        evaluate(name, good, f"variant={name.partition('-')[0]}", "seed=1")

    folder = report(settings, directory)

    heads = [line.split(" | ")[0] for line in (folder / "table2.md").read_text().splitlines()[4:]]
    assert heads == ["| v2", "| v3", "| full (3 RL seeds)"]
    rows = json.loads((folder / "rows.json").read_text())
    assert {(row["row"], row["seed"], row.get("run_seed")) for row in rows} == {
        ("v2", 0, None), ("v3", 1, 0), ("full", 0, None), ("full", 1, 0), ("full", 2, 0),
    }  # fmt: skip
    entries = json.loads((folder / "comparisons.json").read_text())
    assert [(entry["better"], entry["worse"], entry["seed"]) for entry in entries] == [
        ("v3", "v2", 1), ("full", "v2", 0), ("full", "v2", 1), ("full", "v2", 2), ("full", "v3", 1),
    ]  # fmt: skip
    (pair,) = [pair for pair in pooled(entries) if pair.row.name == "full - v2"]
    assert pair.row.label == "full - v2 (3 RL seeds)"
    hit = [cells["sequential"]["HR@10"]["value"] for cells in pair.by_seed.values()]
    assert hit == [1, 0, 1] and pair.row.cell("sequential", "HR@10")["value"] == pytest.approx(2 / 3)
    assert "Seeds of RL alone" in (folder / "report.html").read_text()
    assert [answer.row for answer in cases.find_cases(read_results([first, directory]), settings.cases)[0].answers] == [
        "full"
    ]
    assert [name for name in whole if f"({name}): made with seed=1" in caplog.text] == whole

    heads = [line.split(" | ")[0] for line in (report(usual, first) / "table2.md").read_text().splitlines()[4:]]
    assert heads == ["| v2 (2 seeds)", "| full (2 seeds)"]
    assert "(full2): made with rl.seed=2" in caplog.text


def test_a_row_with_its_own_backbone_stands_in_the_table_and_others_do_not(evaluate):
    t5 = ("model=flan_t5_xl", "model.path=somewhere")
    evaluate("beams", good, "variant=instructrec", *t5)
    evaluate("palr", good, "variant=palr", *t5)
    settings, directory = evaluate("full", good, "variant=full")
    text = (report(settings, directory) / "table2.md").read_text()
    assert "instructrec" in text and "palr" not in text


def test_a_clear_difference_is_certain_and_an_even_one_is_not(tmp_path, evaluate):
    def even(setting, user):
        return good(setting, user) if user % 2 else bad(setting, user)

    def odd(setting, user):
        return bad(setting, user) if user % 2 else good(setting, user)

    directories = [
        evaluate("v2", even, "variant=v2", users=20)[1],
        evaluate("v3", odd, "variant=v3", users=20)[1],
        evaluate("full", good, "variant=full", users=20)[1],
    ]
    directories.append(evaluate("gpt", bad, "variant=api", "api.model=gpt", users=20)[1])
    found = comparisons(read_results(directories), 200, 0.95, 0)
    pairs = [(comparison.better, comparison.worse) for comparison in found]
    assert pairs == [("v3", "v2"), ("full", "v2"), ("full", "v3"), ("full", "api gpt")]
    unsure, sure = (comparison.row.cell("sequential", "HR@10") for comparison in found[:2])
    assert sure["value"] == 0.5 and sure["low"] > 0 and sure["n"] == 20
    assert unsure["value"] == 0 and unsure["low"] < 0 < unsure["high"]
    lines = markdown(comparison_grid(found)).splitlines()
    assert lines[2] == "| Setting | Metric | v3 - v2 | full - v2 | full - v3 | full - api gpt | n |"
    assert all(line.endswith(" | 20 |") for line in lines[4:])
    assert "**-" in next(line for line in lines if "RepeatItem" in line)  # fewer repeats are better
    assert comparison_grid([]) is None


def test_seeds_are_compared_user_by_user_and_only_with_their_like(evaluate, tmp_path):
    answers = [("v2", 0, bad), ("v2", 1, good), ("full", 0, good), ("full", 1, good)]
    rows = [evaluate(f"{row}{seed}", said, f"variant={row}", f"seed={seed}", users=6)[1] for row, seed, said in answers]
    (pair,) = comparisons(read_results(rows), 100, 0.95, 0)
    cell = pair.row.cell("sequential", "HR@10")
    assert (cell["value"], cell["n"]) == (0.5, 6)  # a user's mean over seeds, not twelve users
    assert (cell["low"], cell["high"]) == (-1, 1)  # effects of 1 and 0 over two seeds say nothing
    assert [pair.by_seed[seed]["sequential"]["HR@10"]["value"] for seed in (0, 1)] == [1, 0]
    text = markdown(comparison_grid([pair]))
    assert "full - v2 (2 seeds)" in text and "widened by the spread of the seeds" in text and "**" not in text
    provenance = json.loads((rows[0] / "provenance.json").read_text())
    provenance["upstream"]["data"]["fingerprint"] = "other"
    (rows[0] / "provenance.json").write_text(json.dumps(provenance))
    (pair,) = comparisons(read_results(rows), 100, 0.95, 0)
    assert pair.row.cell("sequential", "HR@10")["value"] == 0 and list(pair.by_seed) == [1]


def test_results_are_compared_after_their_folder_has_moved(evaluate, tmp_path):
    rows = [evaluate(row, said, f"variant={row}")[1] for row, said in (("v2", bad), ("full", good))]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for stage in ("data", "evaluate"):
        (tmp_path / stage).rename(moved / stage)
    results = read_results([moved / "evaluate" / row.name for row in rows])
    assert comparisons(results, 50, 0.95, 0)[0].row.cell("sequential", "HR@10")["value"] == 1


def test_the_mean_over_seeds_keeps_what_all_have():
    first = [record("sequential", user, ("Clerks",)) for user in (1, 2, 3)]
    none = [record("sequential", user, ("Jaws",)) for user in (1, 2, 3)]
    parts = [paired_differences(first, none, CATALOGUE), paired_differences(first[1:], first[1:], CATALOGUE)]
    mean = mean_over_seeds(parts)["sequential"]
    assert mean.users == ("u2", "u3") and mean.values["HR@10"].tolist() == [0.5, 0.5]
    whole = summarise_differences(parts[0], 50, 0.95, 0)["sequential"]["HR@10"]
    assert whole == pytest.approx({"value": 1.0, "low": -0.4152, "high": 1.0, "n": 3}, abs=5e-5)  # of three users


# ---------------------------------------------------------------- Table 6


def mixed(setting, user):
    return ("Clerks", "Alien", "Clerks", "Nobody <script>", "Ikiru")


def test_a_case_says_what_every_item_is_and_what_it_earns(evaluate, tmp_path):
    directories = [evaluate("v2", mixed, "variant=v2")[1], evaluate("full", good, "variant=full")[1]]
    results = read_results(directories)
    chosen = config(tmp_path, "cases.users=[u2]", "cases.settings=[about_30]").cases
    (case,) = cases.find_cases(results, chosen)
    assert (case.user, case.setting, case.target, case.category) == ("u2", "about_30", "Clerks", "Horror")
    assert [answer.row for answer in case.answers] == ["v2", "full"]
    items = case.answers[0].items
    assert [item.marks for item in items] == [
        ("target", "inside"),
        ("inside", "history"),
        ("target", "inside", "repeat"),
        ("nonexistent",),
        ("inside", "excess"),
    ]
    # Eq. 1 and 2: the target earns 1; of three items 30% are less than one, so Algorithm 1 gives it no control score.
    assert items[0].reward == pytest.approx(0.5 * 1 + 0.5 * 0)
    assert [item.reward for item in items[1:]] == [-1.0] * 4


def test_a_case_shows_answers_to_its_own_question_alone(evaluate, tmp_path, caplog):
    """Another seed asks against another category: its answer would be judged by a question it was not asked."""
    rows = {"v2": ("variant=v2",), "v3": ("variant=v3",), "full": ("variant=full", "seed=1")}
    directories = [evaluate(name, good, *words)[1] for name, words in rows.items()]
    chosen = config(tmp_path, "cases.users=[u2]", "cases.settings=[about_30]").cases
    with caplog.at_level("INFO"):
        (case,) = cases.find_cases(read_results(directories), chosen)
    assert [answer.row for answer in case.answers] == ["v2", "v3"]
    assert "answers of full to other questions" in caplog.text
    # Another teacher, and with it another category, under the same seed.
    path = directories[1] / "predictions.jsonl"
    path.write_text(path.read_text().replace('"category": "Horror"', '"category": "Comedy"'))
    (case,) = cases.find_cases(read_results(directories), chosen)
    assert [answer.row for answer in case.answers] == ["v2"] and case.category == "Horror"


def test_the_page_of_cases_shows_text_and_no_markup_of_it(evaluate, tmp_path):
    def hostile(setting, user):
        return ("<b>Heat</b> | x", "Nobody <script>alert(1)</script>\x1b[31m", "a | b")

    settings, directory = evaluate("full", hostile, "variant=full", "cases.settings=[sequential]", "cases.count=1")
    folder = report(settings, directory)
    text = (folder / "table6.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| full |")]
    assert line.count(" | ") == 2 and "<script>" not in text and "invented" in line


def test_a_user_who_was_not_asked_is_named(evaluate):
    settings, directory = evaluate("full", good, "variant=full", "cases.users=[u2,nobody]")
    with pytest.raises(CtrlRecError, match="nobody was not asked"):
        report(settings, directory)
    assert list(directory.parent.parent.glob("tables/*/table2.md"))  # no reason to keep the tables back


# ---------------------------------------------------------------- Tables 1 and 7


def test_tables_of_the_data_stand_beside_the_printed_numbers(tmp_path):
    kept = {"users": 943, "items": 1349, "interactions": 99287, "sparsity": 0.92195}
    assert "| films | 943 | 1349 | 99287 | 92.20 |" in markdown(table_1({"dataset": "films", "kept": kept}))
    assert "| steam (paper) | 12658 | 8572 | 632900 | 99.42 |" in markdown(table_1({"dataset": "films", "kept": kept}))
    counts = {"counts": {"sequential": 943, "category_positive": 472, "search": 1349}, "total": 2764}
    text = markdown(table_7("films", counts))
    assert "| I0 | 943 | 13218 | 12658 |" in text and "| ALL | 2764 | 87597 | 69819 |" in text
    assert "| I4 | 0 | 29199 | 23273 |" in text
    for folder, name, content in (
        ("d", "report.json", {"dataset": "films", "kept": kept}),
        ("i", "counts.json", counts),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(json.dumps(content))
        (tmp_path / folder / "provenance.json").write_text(json.dumps({"git_commit": f"0{folder}", "config": {}}))
    write_data_tables(tmp_path / "d", tmp_path / "i", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"table{number}{form}" for number in (1, 7) for form in (".md", ".tex", ".csv", ".json")
    }
    assert "films,943,1349,99287,92.20\n" in (tmp_path / "out" / "table1.csv").read_text()
    assert json.loads((tmp_path / "out" / "table7.json").read_text())["git_commit"] == "0i"


def test_what_belonged_to_rows_that_are_gone_does_not_stay(evaluate, tmp_path):
    evaluate("v2", bad, "variant=v2", "sl.epochs=2")
    settings, directory = evaluate("full", good, "variant=full", "sl.epochs=2")
    folder = report(settings, directory)
    assert (folder / "comparisons.md").exists() and (folder / "table4.md").exists()
    longer, alone = evaluate("longer", good, "variant=full", "sl.epochs=3", settings=("sequential",))
    report(longer, alone)
    assert not {*folder.glob("comparisons.*"), *folder.glob("table4.*")}
    assert [row["row"] for row in json.loads((folder / "rows.json").read_text())] == ["full"]


def test_the_printed_parts_of_table_7_add_up():
    from ctrlrec.reporting.paper import published_numbers

    for numbers in published_numbers("table7").values():
        assert sum(value for kind, value in numbers.items() if kind != "all") == numbers["all"]
