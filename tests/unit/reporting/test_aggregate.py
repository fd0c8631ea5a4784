import json
import os

import pytest
from scipy import stats

from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting.aggregate import aggregate, comparable, read_results

VARIANTS = {
    "api": ([], False),
    "zero_shot": ([], False),
    "v2": (["sequential"], False),
    "full": (["sequential"], True),
}


def config(variant="v2", seed=0, **changes):
    tasks, rl = VARIANTS[variant]
    sections = {name: {"name": name} for name in ("dataset", "teacher", "model", "instructions", "reward")}
    base = {
        **sections,
        "evaluation": {"users": 100},
        "generation": {"name": "greedy", "batch_size": 4, "engine": "hf"},
        "api": {"url": "https://one.example", "model": "gpt"},
        "general": {"mmlu": None, "gsm8k": None, "mmlu_shots": 5, "gsm8k_shots": 8, "limit": None},
        "sl": {"epochs": 3, "micro_batch_size": 8},
        "rl": {"iterations": 5, "checkpoint_every": 2},
        "variant": {
            "name": variant, "tasks": tasks, "rl": rl, "answers_with": "api" if variant == "api" else "model",
        },
        "seed": seed,
    }  # fmt: skip
    return base | changes


def make(root, name, settings, value=0.5, age=0, half=0.1, examined=False):
    directory = root / name
    directory.mkdir()
    cell = {"value": value, "low": value - half, "high": value + half, "n": 100}
    found = {"sequential": {"HR@10": cell}} | ({"general": {"MMLU": cell}} if examined else {})
    (directory / "metrics.json").write_text(json.dumps({"settings": found}))
    (directory / "provenance.json").write_text(json.dumps({"config": settings}))
    os.utime(directory / "provenance.json", (1e9 - age, 1e9 - age))
    return directory


def names(results):
    return sorted(result.directory.name for result in results)


def test_one_seed_keeps_its_intervals_over_users(tmp_path):
    (row,) = aggregate(read_results([make(tmp_path, "a", config())]), 0.95)
    assert row.name == "v2"
    assert row.cell("sequential", "HR@10")["low"] == pytest.approx(0.4)


def over_seeds(root, values, half):
    paths = [make(root, f"{half}-{seed}", config(seed=seed), value, half=half) for seed, value in enumerate(values)]
    (row,) = aggregate(read_results(paths), 0.9)
    cell = row.cell("sequential", "HR@10")
    assert (row.name, row.seeds, cell["n"]) == ("v2", tuple(range(len(values))), 100)
    assert cell["value"] == pytest.approx(sum(values) / len(values))
    return cell


def test_intervals_over_seeds_hold_what_users_and_what_seeds_leave_open(tmp_path):
    values = (0.2, 0.3, 0.45)
    student = stats.t.interval(0.9, 2, loc=sum(values) / 3, scale=stats.sem(values))
    sure_of_users = over_seeds(tmp_path, values, half=0.0)
    assert (sure_of_users["low"], sure_of_users["high"]) == pytest.approx(student)
    both = over_seeds(tmp_path, values, half=0.02)
    assert student[0] - 0.02 < both["low"] < student[0] and student[1] < both["high"] < student[1] + 0.02


def test_seeds_that_agree_do_not_make_users_certain(tmp_path):
    cell = over_seeds(tmp_path, (0.3, 0.3), half=0.1)
    assert (cell["low"], cell["high"]) == pytest.approx((0.2, 0.4))


def test_intervals_over_seeds_stay_shares(tmp_path):
    paths = [make(tmp_path, str(seed), config(seed=seed), value) for seed, value in enumerate((0.1, 0.9))]
    cell = aggregate(read_results(paths), 0.95)[0].cell("sequential", "HR@10")
    assert (cell["low"], cell["high"]) == (0, 1)


def test_only_what_decides_a_row_keeps_it_out(tmp_path):
    other_sl, other_rl = {"epochs": 9, "micro_batch_size": 8}, {"iterations": 9, "checkpoint_every": 2}
    paths = [
        make(tmp_path, "zero_shot", config("zero_shot", sl=other_sl, rl=other_rl)),
        make(tmp_path, "v2", config("v2", rl=other_rl)),
        make(tmp_path, "v2-longer", config("v2", sl=other_sl, seed=1)),
        make(tmp_path, "full", config("full", sl={"epochs": 3, "micro_batch_size": 1})),
        make(tmp_path, "full-longer", config("full", rl=other_rl, seed=1)),
        make(tmp_path, "full-other-data", config("full", dataset={"name": "other"}, seed=2)),
        make(tmp_path, "full-fewer-users", config("full", evaluation={"users": 5}, seed=3)),
    ]
    found = comparable(read_results(paths), config("full"), tmp_path / "full")
    assert names(found) == ["full", "v2", "zero_shot"]


def test_rows_that_are_not_shown_are_named_with_the_reason(tmp_path, caplog):
    caplog.set_level("INFO")
    paths = [
        make(tmp_path, "full", config("full")),
        make(tmp_path, "full-older", config("full", generation={"engine": "hf", "prompt": 1}), age=5),
        make(tmp_path, "full-longer", config("full", rl={"iterations": 9}, seed=1)),
        make(tmp_path, "v2-older", config("v2"), age=5),
        make(tmp_path, "v2", config("v2")),
        make(tmp_path, "v2-other-data", config("v2", dataset={"name": "other"})),
    ]
    assert names(comparable(read_results(paths), config("full"), tmp_path / "full")) == ["full", "v2"]
    said = [record.getMessage().split(": ", 1)[1] for record in caplog.records if "not shown" in record.getMessage()]
    assert sorted(said) == [
        "full, seed 0 (full-older): made with generation.prompt=1",
        "full, seed 1 (full-longer): made with rl.iterations=9",
        "v2, seed 0 (v2-older): v2 is of the same row",
    ]


def test_what_a_variant_says_it_differs_in_keeps_no_row_out(tmp_path):
    ablation = config("full", rl={"iterations": 9, "warmup": 1})
    ablation["variant"] |= {"name": "full_longer", "differs": ["rl.iterations"]}
    rows = read_results([
        make(tmp_path, "full", config("full", rl={"iterations": 5, "warmup": 1})),
        make(tmp_path, "full-other", config("full", rl={"iterations": 5, "warmup": 2}, seed=1)),
        make(tmp_path, "full_longer", ablation),
    ])  # fmt: skip
    for current in (rows[0], rows[2]):
        assert names(comparable(rows, current.config, current.directory)) == ["full", "full_longer"]


def test_settings_of_a_teacher_of_its_own_are_named_and_may_differ(tmp_path):
    teacher = {"name": "sasrec", "options": {"layers": 2, "heads": 2}}
    deeper = config("full", teacher={"name": "sasrec", "options": {"layers": 3, "heads": 2}})
    rows = read_results([
        make(tmp_path, "v2", config("v2", teacher=teacher)), make(tmp_path, "full", deeper),
    ])  # fmt: skip
    assert rows[1].unlike(rows[0].config) == "teacher.options.layers=3"
    deeper["variant"]["differs"] = ["teacher.options.layers"]
    (row,) = read_results([make(tmp_path, "deeper", deeper)])
    assert row.unlike(rows[0].config) is None


def test_a_server_of_ones_own_model_makes_another_table(tmp_path):
    served = {"name": "greedy", "batch_size": 4, "engine": "api"}
    paths = [
        make(tmp_path, "v2", config()),
        make(tmp_path, "v2-vllm", config(seed=1, generation={**served, "engine": "vllm"})),
        make(tmp_path, "v2-served", config(seed=2, generation=served)),
        make(tmp_path, "full", config("full")),
    ]
    assert names(comparable(read_results(paths), config(), tmp_path / "full")) == ["full", "v2", "v2-vllm"]
    assert names(comparable(read_results(paths), config(generation=served), tmp_path / "v2-served")) == ["v2-served"]


def test_questions_of_other_candidates_make_another_table(tmp_path):
    def asked(variant, count, selection=True):
        return config(
            variant,
            evaluation={"users": 100, "selection": selection},
            instructions={"name": "instructions", "candidate_count": count},
        )

    paths = [
        make(tmp_path, "zero_shot", asked("zero_shot", 20)),
        make(tmp_path, "v2", asked("v2", 50)),
        make(tmp_path, "api", asked("api", 50)),
    ]
    assert names(comparable(read_results(paths), asked("v2", 50), tmp_path / "v2")) == ["api", "v2"]
    free = make(tmp_path, "free", asked("zero_shot", 20, selection=False))
    assert names(comparable(read_results([free]), asked("v2", 50, selection=False), tmp_path / "v2")) == ["free"]


def test_each_model_behind_an_api_is_a_row(tmp_path):
    other = {"url": "https://one.example", "model": "mistral"}
    paths = [make(tmp_path, "gpt", config("api")), make(tmp_path, "mistral", config("api", api=other))]
    rows = aggregate(comparable(read_results(paths), config("full"), tmp_path / "full"), 0.95)
    assert sorted(row.name for row in rows) == ["api gpt", "api mistral"]


def test_other_examinations_do_not_stand_in_one_table(tmp_path):
    whole = {"mmlu": "here", "gsm8k": None, "mmlu_shots": 5, "gsm8k_shots": 8, "limit": None}
    paths = [
        make(tmp_path, "whole", config("zero_shot", general={**whole, "mmlu": "elsewhere"}), examined=True),
        make(tmp_path, "some", config("v2", general={**whole, "limit": 2}), examined=True),
        make(tmp_path, "none", config("full")),
    ]
    assert names(comparable(read_results(paths), config("full", general=whole), tmp_path / "none")) == ["none", "whole"]
    assert len(comparable(read_results(paths), config("full"), tmp_path / "none")) == 3


def test_of_two_results_for_one_row_the_current_wins_else_the_newest(tmp_path):
    paths = [make(tmp_path, name, config(), age=age) for name, age in (("old", 20), ("new", 10), ("current", 30))]
    results = read_results(paths)
    assert names(comparable(results, config(), tmp_path / "current")) == ["current"]
    assert names(comparable(results, config(), tmp_path / "elsewhere")) == ["new"]
    with pytest.raises(CtrlRecError, match="row v2, seed 0: both"):
        aggregate(results, 0.95)


def test_an_unfinished_directory_is_named(tmp_path):
    with pytest.raises(CtrlRecError, match=r"gone: expected a finished evaluation with metrics\.json"):
        read_results([tmp_path / "gone"])


@pytest.mark.parametrize(("differs", "shown"), [(["rl.algorithm"], 2), (["rl.algorithm.name"], 1), (["rl.algo"], 1)])
def test_a_row_may_have_a_section_of_its_own(tmp_path, differs, shown):
    """Another algorithm has another name and other options."""
    algorithms = {"full": {"name": "ppo", "options": {"whiten": 1}}, "grpo": {"name": "grpo", "options": {}}}
    made = []
    for name, algorithm in algorithms.items():
        settings = config("full", rl={"iterations": 5, "algorithm": algorithm})
        settings["variant"] |= {"name": name, "differs": differs if name == "grpo" else []}
        made.append(make(tmp_path, name, settings))
    own = json.loads((made[0] / "provenance.json").read_text())["config"]
    assert len(comparable(read_results(made), own, made[0])) == shown


@pytest.mark.parametrize(
    ("variant", "answers", "sl", "rl", "name"),
    [
        ("v2", True, False, False, "v2+fresh"),
        ("full", True, False, True, "full+fresh+rl"),
        ("full", True, True, True, "full+fresh+sl+rl"),
        ("full", False, False, True, "full+fresh-rl"),
        ("v2", False, False, True, "v2"),  # it has no RL
        ("zero_shot", True, True, True, "zero_shot+fresh"),
        ("api", True, False, False, "api gpt"),
    ],
)
def test_a_row_is_named_by_its_constraint_and_by_the_training_under_it(tmp_path, variant, answers, sl, rl, name):
    changes = {
        "constraint": {"name": "fresh"}, "evaluation": {"users": 100, "constrained": answers},
        "sl": {"epochs": 3, "constrained": sl}, "rl": {"iterations": 5, "constrained": rl},
    }  # fmt: skip
    (result,) = read_results([make(tmp_path, "a", config(variant, **changes))])
    assert result.name == name
    (free,) = read_results([make(tmp_path, "b", config(variant))])
    assert result.belongs_with(free.config) and free.belongs_with(result.config)
    assert result.row.place == free.row.place


def test_rows_of_two_splits_share_no_table_and_old_rows_are_of_the_default_one(tmp_path):
    shares = {"validation_share": 0.1, "test_share": 0.1}
    made = {
        "old": {"name": "dataset"},
        "last_out": {"name": "dataset", "split": "last_out"} | shares,
        "others": {"name": "dataset", "split": "last_out"} | shares | {"test_share": 0.3},
        "by_time": {"name": "dataset", "split": "global_time"} | shares,
        "later": {"name": "dataset", "split": "global_time"} | shares | {"test_share": 0.3},
    }
    for name, dataset in made.items():
        make(tmp_path, name, config("full" if name == "old" else "v2", dataset=dataset))
    results = {result.directory.name: result for result in read_results(tmp_path.iterdir())}
    alike = {
        (one, other)
        for one in made
        for other in made
        if one < other and results[one].belongs_with(results[other].config)
    }
    assert alike == {("last_out", "old"), ("old", "others"), ("last_out", "others")}
    assert results["last_out"].unlike(results["by_time"].config) == "dataset.split=last_out"


@pytest.mark.parametrize(
    ("changes", "unlike"),
    [
        ({}, None),
        ({"kl": 0.005}, "rl.kl_loss_coefficient=0.0"),
        ({"missing": 1.0}, "reward.missing_item=0.0"),
        ({"scale": "batch"}, "rl.algorithm.options={'scale': 'group'}"),
    ],
)
def test_a_record_from_before_a_key_existed_is_of_what_ran_then(tmp_path, changes, unlike):
    def trained(options, rl, reward):
        algorithm = {"name": "item_grpo", "options": options}
        return config("full", rl={"iterations": 5, "algorithm": algorithm} | rl, reward={"name": "paper"} | reward)

    new = {"kl": 0.0, "missing": 0.0, "scale": "group"} | changes
    rl, reward = {"kl_loss_coefficient": new["kl"], "memory_share": 0.35}, {"missing_item": new["missing"]}
    (old,) = read_results([make(tmp_path, "old", trained({}, {}, {}))])
    assert old.unlike(trained({"scale": new["scale"]}, rl, reward)) == unlike
