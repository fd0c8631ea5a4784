"""The rows that other papers propose, through the real command line."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import tiny_run
from chat_server import serving
from tiny_t5 import write_t5


@pytest.mark.slow
def test_palr_learns_from_behaviour_on_the_same_data_and_teacher(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data", "teacher")
    printed = tiny_run.run(["variant=palr", *sweep.arguments(output)], tmp_path / "log")
    assert "data         reuse" in printed and "teacher      reuse" in printed
    directory = tiny_run.only(output / "instructions", "*-palr-????????????")
    histories = {row["user"]: row["items"] for row in tiny_run.read_lines(sweep.result("data") / "sequences.jsonl")}
    rows = tiny_run.read_lines(directory / "instructions.jsonl")
    assert {row["task"] for row in rows} == {"sequential"}
    for row in rows:
        following = histories[row["user"]][histories[row["user"]].index(row["target"]) :]
        assert row["labels"] == following[: row["item_count"]] and len(following) >= row["item_count"] + 2
    predictions = tiny_run.read_lines(tiny_run.only(output / "evaluate", "*-palr-????????????") / "predictions.jsonl")
    asked = {(row["setting"], row["user"]): row["prompt"] for row in predictions}
    theirs = tiny_run.read_lines(sweep.result("evaluate", "*-v2") / "predictions.jsonl")
    assert asked == {(row["setting"], row["user"]): row["prompt"] for row in theirs}


def test_instructrec_on_an_encoder_decoder_lists_beams(sweep, tmp_path: Path) -> None:
    catalogue = tiny_run.read_lines(sweep.result("data") / "catalogue.jsonl")
    write_t5(
        tmp_path / "t5",
        [text for row in catalogue for text in (row["title"], *row["categories"])] * 3
        + ["Which item will be taken next? yes no"],
    )
    arguments = sweep.arguments(
        tmp_path / "runs", model="flan_t5_xl", model__path=tmp_path / "t5", model__dtype="float32",
        evaluation__users=3, evaluation__settings="[sequential,category_positive,formatting]",
    )  # fmt: skip
    dropped = ("model.hidden_size", "model.layers", "model.heads", "model.vocabulary")
    arguments = [argument for argument in arguments if not argument.startswith(dropped)]
    tiny_run.run(["variant=instructrec", *arguments], tmp_path / "log")
    directory = tiny_run.only(tmp_path / "runs" / "evaluate")
    rows = tiny_run.read_lines(directory / "predictions.jsonl")
    assert Counter(row["setting"] for row in rows) == {"sequential": 3, "category_positive": 3, "formatting": 3}
    for row in rows:
        assert len(row["titles"]) == row["item_count"]
        assert row["prompt"].startswith("A user has taken these items")
    metrics = json.loads((directory / "metrics.json").read_text())["settings"]
    assert metrics["formatting"]["CorrectCount"]["value"] == 1
    sl = tiny_run.only(tmp_path / "runs" / "sl")
    settings = json.loads((sl / "adapter" / "adapter_config.json").read_text())
    assert settings["task_type"] == "SEQ_2_SEQ_LM"


def test_the_api_row_asks_the_first_users_and_reports_what_it_took(sweep, copy_of, tmp_path: Path, monkeypatch) -> None:
    output = copy_of("data", "teacher")
    monkeypatch.setenv("TEST_KEY", "sk-secret-of-the-test")
    with serving() as server:
        arguments = sweep.arguments(
            output, api__url=server.url, api__key_variable="TEST_KEY", api__model="parrot", variant__first_users=3,
            generation__max_new_tokens=77,
        )  # fmt: skip
        tiny_run.run(["variant=api", *arguments], tmp_path / "log")
        assert {request["max_tokens"] for request in server.requests} == {77}
        directory = tiny_run.only(output / "evaluate")
        rows = tiny_run.read_lines(directory / "predictions.jsonl")
        theirs = tiny_run.read_lines(sweep.result("evaluate", "*-v2") / "predictions.jsonl")
        first = list(dict.fromkeys(row["user"] for row in theirs))[:3]
        assert {row["user"] for row in rows} == set(first) and len(rows) == 3 * 7
        assert all(row["response"] == row["prompt"].upper() for row in rows)
        assert all(row["prompt"].endswith("without any explanation.") for row in rows)
        report = json.loads((directory / "api.json").read_text())
        assert report["answers"] == len(server.requests) and report["prompt_tokens"] == 20 * report["answers"]
        # Evaluated again from nothing, the answers come from the disk.
        asked = len(server.requests)
        for path in (output / "evaluate").glob("*-????????????"):
            shutil.rmtree(path)
        printed = tiny_run.run(["variant=api", *arguments], tmp_path / "again")
        assert len(server.requests) == asked and f"from_cache {asked}" in printed
    for path in [*output.rglob("*"), tmp_path / "log", tmp_path / "again"]:
        assert not path.is_file() or b"sk-secret-of-the-test" not in path.read_bytes()


@pytest.mark.slow
def test_a_server_may_answer_for_the_model_at_hand(sweep, copy_of, tmp_path: Path) -> None:
    output = copy_of("data", "teacher", "instructions", "sl")
    with serving() as server:
        arguments = sweep.arguments(
            output, generation__engine="api", api="local", api__url=server.url,
            evaluation__settings="[sequential]",
        )  # fmt: skip
        printed = tiny_run.run(["variant=v2", *arguments], tmp_path / "log")
        assert "sl           reuse" in printed and len(server.requests) == 8
        assert {request["model"] for request in server.requests} == {"ctrlrec"}


@pytest.mark.slow
def test_general_ability_of_the_model_at_hand_goes_into_its_metrics(sweep, copy_of, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    output = copy_of("data", "teacher", "instructions", "sl")
    source = tmp_path / "gsm8k"
    source.mkdir()
    for split, count in (("train", 2), ("test", 4)):
        rows = [{"question": f"{n} and {n}?", "answer": f"#### {2 * n}"} for n in range(count)]
        (source / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = sweep.arguments(
        output, general__gsm8k=source, general__gsm8k_shots=1, general__limit=3, evaluation__settings="[sequential]"
    )
    printed = tiny_run.run(["variant=v2", *arguments], tmp_path / "log")
    metrics = json.loads((tiny_run.only(output / "evaluate") / "metrics.json").read_text())["settings"]
    assert set(metrics["general"]) == {"GSM8K"} and metrics["general"]["GSM8K"]["n"] == 3
    assert "GSM8K" in next((output / "tables").glob("*/table5.md")).read_text()
    assert "not asked" not in printed and "MMLU and GSM8K are not asked: set general.mmlu" in sweep.printed
