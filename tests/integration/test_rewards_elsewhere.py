"""The rewards of a finished run in other trainers: TRL's reward functions, verl's, and the prompts they train on."""

import asyncio
import copy
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_run
import torch
from datasets import load_dataset

from ctrlrec import export
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.backbone import load_tokenizer
from ctrlrec.rewards import verl
from ctrlrec.rewards.trl import ControlReward

FIELDS = (
    "task", "user", "history", "target", "item_count", "category", "proportion", "candidates", "constraints",
)  # fmt: skip
SCHEMES = ("paper", "paper_literal", "released")


@pytest.fixture(scope="module")
def rollouts(sweep, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The stage RL of the tiny run under each reading of the reward."""
    made = {"paper": sweep.result("rl")}
    for scheme in SCHEMES[1:]:
        folder = tmp_path_factory.mktemp(scheme)
        for stage in ("data", "teacher", "instructions", "sl"):
            (folder / stage).symlink_to(sweep.output / stage)
        tiny_run.run([*sweep.arguments(folder), "variant=full", "stage=rl", f"reward={scheme}"], folder / "log")
        made[scheme] = tiny_run.only(folder / "rl")
    return made


def instruction(row: dict) -> str:
    return json.dumps({name: row[name] for name in FIELDS}, ensure_ascii=False)


def asked(function: ControlReward, rows: list[dict], conversational: bool = False) -> list[float | None]:
    """Call a reward function as TRL does."""
    answers = [row["response"] for row in rows]
    return function(
        prompts=["" for _ in rows],
        completions=[[{"role": "assistant", "content": answer}] for answer in answers] if conversational else answers,
        completion_ids=[[0] for _ in rows],
        instruction=[instruction(row) for row in rows],
        another_column=[1 for _ in rows],
        trainer_state=SimpleNamespace(global_step=3),
        log_extra=lambda column, values: None,
        log_metric=lambda name, value: None,
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_reward_functions_give_the_kept_rewards(sweep, rollouts: dict[str, Path], scheme: str) -> None:
    rows = tiny_run.read_lines(rollouts[scheme] / "rollouts.jsonl")
    assert {row["task"] for row in rows} > {"sequential", "category_positive"}
    readings = {"item": scheme, "list": scheme}
    kept = {
        "item": [sum(row["item_reward"]) for row in rows],
        "list": [row["list_reward"] for row in rows],
        "all": [sum(row["item_reward"]) + 10 * row["list_reward"] for row in rows],
    }
    for part, values in kept.items():
        function = ControlReward.from_run(sweep.result("instructions"), part=part, **readings)
        assert function.__name__ == f"ctrlrec_{part}"
        assert asked(function, rows) == pytest.approx(values, abs=1e-9)
        own = ControlReward.from_run(rollouts[scheme], part)  # the folder of the stage rl names its own reading
        assert asked(own, rows, conversational=True) == pytest.approx(values, abs=1e-9)


def test_the_control_part_is_what_the_list_reward_holds_beside_preference(sweep) -> None:
    rows = tiny_run.read_lines(sweep.result("rl") / "rollouts.jsonl")
    folder = sweep.result("instructions")
    control = asked(ControlReward.from_run(folder, part="control"), rows)
    alone = asked(ControlReward.from_run(folder, part="list", preference_share=0.0), rows)
    assert [value is None for value in control] == [row["task"] == "sequential" for row in rows]
    assert [value for value in control if value is not None] == pytest.approx(
        [value for value, row in zip(alone, rows, strict=True) if row["task"] != "sequential"]
    )


def test_search_and_chat_have_no_reward(sweep) -> None:
    rows = tiny_run.read_lines(sweep.result("instructions") / "instructions.jsonl")
    values = asked(ControlReward.from_run(sweep.result("instructions")), rows)
    assert [value is None for value in values] == [row["task"] in ("search", "chat") for row in rows]
    assert any(value is None for value in values)


def test_wrong_use_is_one_error(sweep, tmp_path: Path) -> None:
    folder = sweep.result("instructions")
    with pytest.raises(CtrlRecError, match="part='items': expected one of item, list, control, all"):
        ControlReward.from_run(folder, part="items")
    with pytest.raises(CtrlRecError, match=r"reward\.weight"):
        ControlReward.from_run(folder, weight=1.0)
    for wrong in (sweep.result("data"), tmp_path):
        with pytest.raises(CtrlRecError, match="expected the folder of a finished stage instructions"):
            ControlReward.from_run(wrong)
    function = ControlReward.from_run(folder)
    with pytest.raises(CtrlRecError, match="no column 'instruction', only target"):
        function(prompts=[""], completions=[""], completion_ids=[[0]], target=["x"])
    with pytest.raises(CtrlRecError, match="no instruction"):
        function([""], ["1. x"], [[0]], instruction=["not json"])
    row = tiny_run.read_lines(folder / "instructions.jsonl")[0]
    with pytest.raises(CtrlRecError, match="there is no 'No Such Film'"):
        function([""], ["1. x"], [[0]], instruction=[{**row, "target": "No Such Film"}])


@pytest.mark.parametrize("module", ["trl", "verl"])
def test_plugins_import_neither_lightning_nor_hydra(sweep, module: str) -> None:
    code = (
        f"import sys; from ctrlrec.rewards import {module}, trl; trl.ControlReward.from_run({str(sweep.output)!r} "
        f"+ '/instructions/{sweep.result('instructions').name}'); "
        "print([name for name in ('hydra', 'pytorch_lightning', 'lightning', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=tiny_run.environment(), check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------------------ prompts


@pytest.fixture(scope="module")
def exported(sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "prompts"
    done = subprocess.run(
        [sys.executable, "-m", "ctrlrec.export", "prompts", str(sweep.result("instructions")), "--out", str(out)],
        capture_output=True, text=True, env=tiny_run.environment(), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def test_prompts_are_the_instructions_that_have_a_reward(sweep, exported: Path, tmp_path: Path) -> None:
    data = load_dataset(str(exported), cache_dir=str(tmp_path))
    for split, name in (("train", "instructions.jsonl"), ("validation", "validation.jsonl")):
        lines = tiny_run.read_lines(sweep.result("instructions") / name)
        lines = [line for line in lines if line["task"] not in ("search", "chat")]
        rows = list(data[split])
        assert [json.loads(row["instruction"]) for row in rows] == lines
        assert [row["prompt"] for row in rows] == [[{"role": "user", "content": line["prompt"]}] for line in lines]
        assert all(row["reward_model"] == {"style": "rule", "ground_truth": row["instruction"]} for row in rows)
        assert {row["data_source"] for row in rows} == {"ctrlrec/records"}
        assert [row["extra_info"]["index"] for row in rows] == list(range(len(rows)))
    assert [rank for rank in lines[0]["label_ranks"] if rank is not None]  # the teacher's ranks are among the fields


def test_labels_earn_more_than_their_reverse(sweep, exported: Path, tmp_path: Path) -> None:
    rows = list(load_dataset(str(exported), cache_dir=str(tmp_path))["train"])
    function = ControlReward.from_run(sweep.result("rl"))
    columns = {"prompts": [row["prompt"] for row in rows], "instruction": [row["instruction"] for row in rows]}
    labels = [json.loads(row["instruction"])["labels"] for row in rows]
    good, bad = (
        function(completions=["\n".join(f"{place}. {title}" for place, title in enumerate(titles, 1)) for titles in of],
                 completion_ids=[[] for _ in rows], **columns)
        for of in (labels, [[*reversed(titles)] for titles in labels])
    )  # fmt: skip
    assert sum(good) > sum(bad)


def test_export_refuses_to_overwrite_and_other_folders(sweep, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match=r"train\.parquet: exists"):
        export.prompts(sweep.result("instructions"), exported)
    with pytest.raises(CtrlRecError, match="expected the folder of a finished stage instructions"):
        export.prompts(sweep.result("teacher"), tmp_path)
    assert export.prompts(sweep.result("rl"), tmp_path / "of_rl") == {
        split: len(load_dataset(str(exported), cache_dir=str(tmp_path))[split]) for split in ("train", "validation")
    }


# --------------------------------------------------------------------------------------------------------------- verl


def test_compute_score_gives_the_kept_rewards_under_the_same_keys(sweep, rollouts: dict[str, Path]) -> None:
    keys = set()
    for scheme, folder in rollouts.items():
        for row in tiny_run.read_lines(folder / "rollouts.jsonl"):
            parts = verl.compute_score(
                data_source="ctrlrec/records", solution_str=row["response"], ground_truth=instruction(row),
                extra_info={"run": str(sweep.result("instructions")), "num_turns": 1, "rollout_reward_scores": {}},
                reward={"item": scheme, "list": scheme}, reward_router_address="host:1",
            )  # fmt: skip
            assert parts["item"] == pytest.approx(sum(row["item_reward"]), abs=1e-9)
            assert parts["list"] == pytest.approx(row["list_reward"], abs=1e-9)
            assert parts["score"] == pytest.approx(parts["item"] + 10 * parts["list"], abs=1e-9)
            assert parts["illegal"] == sum(reason is not None for reason in row["illegal"])
            keys.add(tuple(parts))
    row = next(
        row for row in tiny_run.read_lines(sweep.result("instructions") / "instructions.jsonl")
        if row["task"] == "search"
    )  # fmt: skip
    nothing = verl.compute_score("", row["response"], json.dumps(row), None, run=str(sweep.result("instructions")))
    assert keys == {tuple(nothing)} and set(nothing.values()) == {0.0}
    with pytest.raises(CtrlRecError, match="no folder of a run"):
        verl.compute_score("", row["response"], json.dumps(row), {})


class Batch:
    """As much of verl's DataProto as its reward managers read."""

    def __init__(self, batch: dict[str, torch.Tensor], non_tensor_batch: dict[str, list]):
        self.batch, self.non_tensor_batch = batch, non_tensor_batch

    def __getitem__(self, index: int | slice) -> "Batch":
        return Batch(
            {name: tensor[index] for name, tensor in self.batch.items()},
            {name: values[index] for name, values in self.non_tensor_batch.items()},
        )


def test_the_manager_places_rewards_where_rl_placed_them(sweep) -> None:
    rows = [row for row in tiny_run.read_lines(sweep.result("rl") / "rollouts.jsonl") if row["titles"]][:8]
    tokenizer = load_tokenizer(sweep.result("data") / "tokenizer")
    answers = [
        [*tokenizer(row["response"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for row in rows
    ]
    longest, prompt = max(map(len, answers)), 5
    responses = torch.tensor([[*ids, *[tokenizer.pad_token_id] * (longest - len(ids))] for ids in answers])
    mask = torch.tensor([[1] * (prompt + len(ids)) + [0] * (longest - len(ids)) for ids in answers])
    data = Batch(
        {"prompts": torch.ones(len(rows), prompt).long(), "responses": responses, "attention_mask": mask},
        {
            "data_source": ["ctrlrec/records"] * len(rows),
            "reward_model": [{"style": "rule", "ground_truth": instruction(row)} for row in rows],
            "extra_info": [{"run": str(sweep.result("instructions"))} for _ in rows],
        },
    )
    config = {"reward": {"custom_reward_function": {"path": None}, "reward_manager": {"name": "ItemRewardManager"}}}
    manager = verl.ItemRewardManager(config=config, tokenizer=tokenizer, compute_score=verl.compute_score)

    async def everyone() -> list[dict]:
        return [await manager.run_single(data[row : row + 1]) for row in range(len(rows))]

    outputs = asyncio.run(everyone())
    scores = [copy.copy(output["reward_score"]) for output in outputs]  # as another process would send them
    placed = manager.assemble_rm_scores(data, scores)
    assert placed.shape == responses.shape
    for row, ids, values, output in zip(rows, answers, placed, outputs, strict=True):
        whole = sum(row["item_reward"]) + 10 * row["list_reward"]
        assert float(output["reward_score"]) == pytest.approx(whole) == pytest.approx(float(values.sum()), abs=1e-4)
        assert float(values[len(ids) - 1]) == pytest.approx(10 * row["list_reward"], abs=1e-4)
        assert not values[len(ids) :].any()
        text = ""
        for title, reward in zip(row["titles"], row["item_reward"], strict=True):
            text = row["response"][: row["response"].index(title, len(text)) + len(title)]
            covered = [place for place in range(len(ids)) if tokenizer.decode(ids[: place + 1]).startswith(text)]
            assert float(values[covered[0]]) == pytest.approx(reward, abs=1e-5)
        assert output["reward_extra_info"]["item"] == pytest.approx(sum(row["item_reward"]))
    plain = manager.assemble_rm_scores(data, [1.5] * len(rows))
    assert plain.sum(1).tolist() == [1.5] * len(rows)
    assert [int(row.nonzero()) for row in plain] == [len(ids) - 1 for ids in answers]


def test_the_signatures_are_those_of_the_hosts() -> None:
    named: Callable[..., list[str]] = lambda function: list(inspect.signature(function).parameters)  # noqa: E731
    assert named(ControlReward.__call__)[1:4] == ["prompts", "completions", "completion_ids"]
    assert named(verl.compute_score)[:4] == ["data_source", "solution_str", "ground_truth", "extra_info"]
    assert named(verl.ItemRewardManager.__init__)[1:4] == ["config", "tokenizer", "compute_score"]
