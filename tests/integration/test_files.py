"""What a run leaves (spec section 9): every file, with exactly the named fields."""

import csv
import json
import math
from pathlib import Path

import pytest
import tiny_run

FIELDS = {
    "catalogue.jsonl": "item title categories target_category interactions",
    "sequences.jsonl": "user items",
    "instructions.jsonl": "task user history target item_count category proportion constraints candidates prompt "
    "response labels label_ranks",
    "rollouts.jsonl": "iteration sample task user history target item_count category proportion constraints candidates "
    "response titles items teacher_rank illegal item_reward list_reward tokens reward_at",
    "predictions.jsonl": "setting user history target item_count category proportion constraints prompt response "
    "titles items teacher_rank",
}
PLACES = [
    ("data", "*", "catalogue.jsonl"),
    ("data", "*", "sequences.jsonl"),
    ("instructions", "*", "instructions.jsonl"),
    ("rl", "*", "rollouts.jsonl"),
    ("evaluate", "*-v2", "predictions.jsonl"),
    ("evaluate", "*-full", "predictions.jsonl"),
]


@pytest.mark.parametrize(("stage", "pattern", "name"), PLACES)
def test_rows_have_exactly_the_named_fields(sweep, stage: str, pattern: str, name: str) -> None:
    rows = tiny_run.read_lines(sweep.result(stage, pattern) / name)
    assert rows
    for row in rows:
        assert set(row) == set(FIELDS[name].split())


@pytest.mark.parametrize(
    ("stage", "pattern"),
    [("data", "*"), ("teacher", "*"), ("instructions", "*"), ("sl", "*"), ("rl", "*"), ("evaluate", "*-full")],
)
def test_provenance_says_how_a_result_was_made(sweep, stage: str, pattern: str) -> None:
    directory = sweep.result(stage, pattern)
    record = json.loads((directory / "provenance.json").read_text())
    named = "command config git_commit packages hardware seed wall_seconds peak_memory_bytes upstream"
    assert set(record) >= set(named.split()) and not record["earlier_attempts"]
    row = "full" if stage == "rl" else record["config"]["variant"]["name"]
    assert record["command"].startswith(f"python -m ctrlrec variant={row} ")  # of the sweep's rows the one that made it
    assert record["seed"] == record["config"]["seed"] == 0
    assert record["config"]["sl"]["max_steps"] == 6
    assert record["wall_seconds"] >= 0 and record["peak_memory_bytes"] > 2**20
    assert record["packages"]["torch"] and record["hardware"]["cores"] >= 1
    for need, upstream in record["upstream"].items():
        assert upstream["fingerprint"] == Path(upstream["directory"]).name[-12:]
        assert Path(upstream["directory"]).parent.name == need
    recorded = json.loads((directory / "stage.json").read_text())
    assert {need: up["fingerprint"] for need, up in record["upstream"].items()} == recorded["upstream"]


def test_metrics_have_value_interval_and_number_of_users(sweep) -> None:
    wanted = {
        "sequential": "HR@5 HR@10 NDCG@5 NDCG@10",
        "category_positive": "HR@5 HR@10 NDCG@5 NDCG@10 TCP@10 TCP@10_free",
        "category_negative": "HR@5 HR@10 NDCG@5 NDCG@10 TCP@10 TCP@10_free",
        "at_most_20": "HR@5 HR@10 NDCG@5 NDCG@10 CPA CPA_free CPA_literal",
        "about_30": "HR@5 HR@10 NDCG@5 NDCG@10 CPA CPA_free CPA_literal",
        "at_least_30": "HR@5 HR@10 NDCG@5 NDCG@10 CPA CPA_free CPA_literal",
        "formatting": "HR@K NDCG@K CorrectCount RepeatItem@K NonExist@K InHistory@K",
    }
    for variant in ("v2", "full"):
        metrics = json.loads((sweep.result("evaluate", f"*-{variant}") / "metrics.json").read_text())
        assert set(metrics) == {"settings"}
        assert set(metrics["settings"]) == set(wanted)
        for setting, names in wanted.items():
            assert set(metrics["settings"][setting]) >= set(names.split())
            for name, cell in metrics["settings"][setting].items():
                assert set(cell) == {"value", "low", "high", "n"}
                most = math.inf if name in ("AveragePopularity@K", "Novelty@K") else 1
                assert 0 <= cell["low"] <= cell["value"] <= cell["high"] <= most
                assert 1 <= cell["n"] <= 8


def test_weights_are_safetensors_and_adapters_are_peft(sweep) -> None:
    assert (sweep.result("sl") / "model" / "model.safetensors").is_file()
    rl = sweep.result("rl")
    for adapter in ("actor", "critic"):
        settings = json.loads((rl / "adapter" / adapter / "adapter_config.json").read_text())
        assert settings["peft_type"] == "LORA"
        assert (rl / "adapter" / adapter / "adapter_model.safetensors").is_file()
    assert (rl / "value_head.safetensors").is_file()
    everything = [path.suffix for path in sweep.output.rglob("*")]
    assert not {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt"} & set(everything)


def test_nothing_unfinished_is_left(sweep) -> None:
    assert not list(sweep.output.rglob("*.partial"))
    assert not list(sweep.output.rglob("*.tmp"))
    assert not list(sweep.output.rglob("checkpoints"))


def test_learning_curves_are_logged_for_every_iteration(sweep) -> None:
    with (sweep.result("rl") / "logs" / "attempt_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for name in (
        "reward/total", "reward/item", "reward/list", "illegal/nonexistent", "illegal/repeat", "illegal/history",
        "illegal/excess", "kl/reference", "kl/policy", "policy/entropy", "policy/ratio", "policy/clipped", "loss/value",
        "value/explained_variance", "answer/tokens", "gradient/actor", "gradient/critic",
        "tokens_per_second/rollout", "seconds/rollout", "seconds/learn",
    ):  # fmt: skip
        assert all(math.isfinite(float(row[name])) for row in rows), name
    assert float(rows[0]["kl/reference"]) == pytest.approx(0, abs=1e-6)
    assert all(float(row["kl/reference"]) >= 0 for row in rows)


def test_the_log_of_rewards_is_the_mean_of_the_rollouts(sweep) -> None:
    rollouts = tiny_run.read_lines(sweep.result("rl") / "rollouts.jsonl")
    with (sweep.result("rl") / "logs" / "attempt_0" / "metrics.csv").open() as file:
        logged = [float(row["reward/total"]) for row in csv.DictReader(file)]
    for iteration, value in enumerate(logged):
        rows = [row for row in rollouts if row["iteration"] == iteration]
        total = sum(sum(row["item_reward"]) + 10 * row["list_reward"] for row in rows)
        assert value == pytest.approx(total / len(rows), rel=1e-5)


def test_tables_show_both_rows(sweep) -> None:
    folder = sweep.output / "tables" / "records-llama_mini-demo"
    for number in (2, 3, 4, 5):
        text = (folder / f"table{number}.md").read_text(encoding="utf-8")
        assert "v2" in text and "full" in text
    assert (folder / "summary.md").is_file()
    assert "full - v2" in (folder / "comparisons.md").read_text(encoding="utf-8")
    assert "records" in (folder / "table1.md").read_text(encoding="utf-8")
    counts = json.loads((sweep.result("instructions") / "counts.json").read_text())
    assert f"| ALL | {counts['total']} | 87597 | 69819 |" in (folder / "table7.md").read_text(encoding="utf-8")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count('<article class="case">') == page.count("<h4>v2</h4>") == page.count("<h4>full</h4>") == 4
    made = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    assert [row["row"] for row in made] == ["v2", "full"] and all(row["n"] == 8 for row in made)


def test_nothing_names_this_machine(sweep) -> None:
    import platform

    for path in sweep.output.rglob("provenance.json"):
        record = json.loads(path.read_text())
        assert platform.node() not in json.dumps(record["hardware"])
