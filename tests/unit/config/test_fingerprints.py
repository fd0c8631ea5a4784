"""What changes a stage's fingerprint and what must not."""

import json
from pathlib import Path

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.config.schema import Config
from ctrlrec.errors import CtrlRecError
from ctrlrec.pipeline.plan import STAGES, plan
from ctrlrec.pipeline.run import planned, requested
from ctrlrec.reporting.report import tables_folder
from ctrlrec.runtime import hardware

OTHER = "32-true" if hardware.native_bfloat16() else "bf16-mixed"  # than auto here


@pytest.fixture
def row(tmp_path: Path):
    """Composes a row over a small data set, which the data stage's settings digest."""
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\nu,i,1\n")
    (tmp_path / "items.jsonl").write_text('{"item": "i", "title": "t", "categories": ["c"]}\n')
    return lambda *overrides: compose("dataset=records", f"dataset.path={tmp_path}", *overrides)


def changed(before: Config, after: Config) -> set[str]:
    a, b = planned(before), planned(after)
    return {name for name in a.keys() | b.keys() if a.get(name) != b.get(name)}


def test_v2_v3_and_full_share_everything_up_to_sl(row) -> None:
    v2, v3, full = (planned(row(f"variant={name}")) for name in ("v2", "v3", "full"))
    for stage in ("data", "teacher", "instructions", "sl"):
        assert v2[stage] == v3[stage] == full[stage]
    assert "rl" not in v2
    assert v3["rl"] != full["rl"]
    assert len({v2["evaluate"], v3["evaluate"], full["evaluate"]}) == 3


def test_a_metric_that_is_added_is_measured(row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = planned(row())
    (tmp_path / "evaluation" / "metrics").mkdir(parents=True)
    (tmp_path / "evaluation" / "metrics" / "mine.py").write_text("METRICS = ()\n")
    monkeypatch.setenv("CTRLREC_PLUGINS", str(tmp_path))
    after = planned(row())
    assert {name for name in before if before[name] != after[name]} == {"evaluate"}


def test_v1_shares_data_teacher_and_instructions_but_not_sl(row) -> None:
    v1, v2 = planned(row("variant=v1")), planned(row("variant=v2"))
    assert {name for name in v1 if v1[name] != v2[name]} == {"sl", "evaluate"}


def test_a_local_model_is_known_by_its_files(row, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    asked = ["model=hf", f"model.path={folder}", "variant=full"]
    before = planned(row(*asked))
    (folder / "model.safetensors").write_bytes(b"others.")
    after = planned(row(*asked))
    assert {name for name in before if before[name] != after[name]} == {"sl", "rl", "evaluate"}
    (folder / "tokenizer.json").write_text("{} ")
    assert all(planned(row(*asked))[name] != after[name] for name in after)


@pytest.mark.parametrize("variant", ["sasrec", "zero_shot"])
def test_questions_with_other_candidates_are_asked_anew_of_rows_without_training(row, variant: str) -> None:
    asked = [f"variant={variant}", "evaluation.selection=true"]
    assert changed(row(*asked), row(*asked, "instructions.candidate_count=50")) == {"evaluate"}
    free = f"variant={variant}"
    assert not changed(row(free), row(free, "instructions.candidate_count=50"))


def test_a_baseline_with_its_own_instructions_shares_data_and_teacher(row) -> None:
    v1, palr = planned(row("variant=v1")), planned(row("variant=palr"))
    assert {name for name in v1 if v1[name] != palr[name]} == {"instructions", "sl", "evaluate"}


@pytest.mark.parametrize(
    "override",
    [
        "logger=csv",
        "logger.project=other",
        "logger.group=table",
        "trainer=cpu",
        "trainer.threads=1",
        "trainer.progress=false",
        "trainer.profile=true",
        "trainer.checkpoint_every=3",
        "trainer.chunked_head=true",
        "trainer.compile=true",
        "trainer.workers=2",
        "sl.micro_batch_size=1",
        "sl.micro_tokens=100",
        "rl.micro_batch_size=1",
        "rl.micro_tokens=100",
        "generation.batch_size=1",
        "variant.table.order=1",
        "output=elsewhere",
        "cache=elsewhere",
    ],
)
def test_what_cannot_change_a_result_changes_no_fingerprint(row, override: str) -> None:
    assert changed(row(), row(override)) == set()


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        ("seed=1", {"teacher", "instructions", "sl", "rl", "evaluate"}),
        ("teacher.learning_rate=0.01", {"teacher", "instructions", "sl", "rl", "evaluate"}),
        ("teacher.options.heads=1", {"teacher", "instructions", "sl", "rl", "evaluate"}),
        ("teacher=gru4rec", {"teacher", "instructions", "sl", "rl", "evaluate"}),
        ("instructions.candidate_share=0.5", {"instructions", "sl", "rl", "evaluate"}),
        ("instructions.search_item_count_max=20", {"instructions", "sl", "rl", "evaluate"}),
        ("sl.learning_rate=0.01", {"sl", "rl", "evaluate"}),
        ("sl.batch_size=8", {"sl", "rl", "evaluate"}),
        ("model.layers=1", {"sl", "rl", "evaluate"}),
        ("rl.learning_rate=0.01", {"rl", "evaluate"}),
        ("rl.seed=1", {"rl", "evaluate"}),
        ("reward=released", {"rl", "evaluate"}),
        ("rl/algorithm=grpo", {"rl", "evaluate"}),
        ("rl.algorithm.options.whiten_advantages=task", {"rl", "evaluate"}),
        ("rl.validate_every=5", {"rl", "evaluate"}),
        ("+trainer.extra.detect_anomaly=true", {"teacher", "instructions", "sl", "rl", "evaluate"}),
        ("+trainer.callbacks.learning_rate_monitor={}", {"teacher", "instructions", "sl", "rl", "evaluate"}),
        ("variant=v3", {"rl", "evaluate"}),
        ("reward.list_weight=5", {"rl", "evaluate"}),
        ("reward.additive_at_items=true", {"rl", "evaluate"}),
        ("evaluation.users=7", {"evaluate"}),
        ("evaluation.match_max_edits=0", {"evaluate"}),
        ("generation.max_new_tokens=9", {"evaluate"}),
        ("general=hub", {"evaluate"}),
        ("generation.engine=hf", {"rl", "evaluate"}),
        ("generation.engine=vllm", {"rl", "evaluate"}),
        ("generation.engine=api", {"evaluate"}),
        ("dataset.history_length=5", {"data", "teacher", "instructions", "sl", "rl", "evaluate"}),
        ("model.vocabulary=999", {"data", "teacher", "instructions", "sl", "rl", "evaluate"}),
        (f"trainer.precision={OTHER}", {"sl", "rl", "evaluate"}),
    ],
)
def test_what_changes_a_result_changes_its_stage_and_those_behind_it(row, override: str, stages: set[str]) -> None:
    assert changed(row(), row(override)) == stages


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_known_by_what_it_means_on_this_device(row, monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    """What a processor made in float32 is not what a GPU makes in bfloat16, and both are what those names say."""
    words = ("model=smollm2_135m",)
    monkeypatch.setattr(hardware, "native_bfloat16", lambda: native)
    here = planned(row(*words))
    dtype, precision = ("bfloat16", "bf16-mixed") if native else ("float32", "32-true")
    assert planned(row(*words, f"model.dtype={dtype}", f"trainer.precision={precision}")) == here
    monkeypatch.setattr(hardware, "native_bfloat16", lambda: not native)
    assert {name for name, found in planned(row(*words)).items() if found != here[name]} == {"sl", "rl", "evaluate"}


def test_an_option_is_known_by_its_value_and_not_by_its_spelling(row) -> None:
    assert not changed(row("teacher.options.dropout=0"), row("teacher.options.dropout=0.0"))


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder with data, dialogues, a model and questions of the user's own."""
    home = tmp_path / "home"
    (home / "data").mkdir(parents=True)
    (home / "data/interactions.csv").write_text("user,item,timestamp\nu,i,1\n")
    (home / "data/items.jsonl").write_text('{"item": "i", "title": "t", "categories": ["c"]}\n')
    turns = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello."}]
    (home / "chat.jsonl").write_text(json.dumps({"id": "1", "conversations": turns}) + "\n")
    (home / "model").mkdir()
    (home / "model/tokenizer.json").write_text("{}")
    (home / "gsm8k").mkdir()
    for part in ("train", "test"):
        (home / f"gsm8k/{part}.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    return home


def test_local_files_are_known_by_their_content_however_their_path_is_spelt(
    local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprints(home: str) -> dict[str, str]:
        return planned(
            compose(
                "dataset=records",
                f"dataset.path='{home}/data'",
                f"instructions.chat_path='{home}/chat.jsonl'",
                "model=hf",
                f"model.path='{home}/model'",
                f"general.gsm8k='{home}/gsm8k'",
                "variant=v2",
            )
        )

    before = fingerprints(str(local))
    (tmp_path / "link").symlink_to(local)
    monkeypatch.setenv("HOME", str(local))
    monkeypatch.chdir(tmp_path)
    spellings = [f"{local}/.", f"{tmp_path}//home", "home", "./home", "~", f"{tmp_path}/link"]
    assert [fingerprints(spelling) for spelling in spellings] == [before] * len(spellings)
    local.rename(tmp_path / "moved, häuser")
    assert fingerprints(f"{tmp_path}/moved, häuser") == before


def test_changed_data_under_the_same_path_changes_the_data_stage(row, tmp_path: Path) -> None:
    before = planned(row())["data"]
    with (tmp_path / "interactions.csv").open("a") as file:
        file.write("u,i,2\n")
    assert planned(row())["data"] != before


def test_changed_dialogues_change_what_learns_from_them(row, tmp_path: Path) -> None:
    dialogues = tmp_path / "chat.jsonl"
    turns = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello."}]
    dialogues.write_text(json.dumps({"id": "1", "conversations": turns}) + "\n")
    shipped = planned(row())
    own = planned(row(f"instructions.chat_path={dialogues}"))
    # llama_mini's tokenizer is trained on the dialogues too
    assert all(shipped[stage] != own[stage] for stage in ("data", "instructions", "sl"))
    dialogues.write_text(json.dumps({"id": "1", "conversations": turns * 2}) + "\n")
    edited = planned(row(f"instructions.chat_path={dialogues}"))
    assert all(edited[stage] != own[stage] for stage in ("data", "instructions", "sl"))


def test_what_is_asked_for(row) -> None:
    assert requested(row("stage=teacher")) == ["teacher"]
    assert requested(row("variant=sasrec")) == ["evaluate"]
    assert requested(row()) == ["instructions", "evaluate"]


def test_a_split_changes_everything_and_its_shares_only_where_they_are_read(row) -> None:
    shares = ("dataset.validation_share=0.2", "dataset.test_share=0.2")
    assert not changed(row(), row(*shares))
    by_time = row("dataset.split=global_time")
    stages = {"data", "teacher", "instructions", "sl", "rl", "evaluate"}
    assert changed(row(), by_time) == stages
    for share in shares:
        assert changed(by_time, row("dataset.split=global_time", share)) == stages
    folders = [{step.directory.name for step in plan(config).values()} for config in (row(), by_time)]
    assert all(name.startswith("records-global_time-") for name in folders[1])
    assert not any("global_time" in name for name in folders[0])
    assert tables_folder(by_time).name == f"records-global_time-{by_time.model.name}-{by_time.budget.name}"


def test_shares_that_leave_no_training_are_refused(row) -> None:
    shares = ("dataset.validation_share=0.5", "dataset.test_share=0.5")
    row(*shares)
    with pytest.raises(CtrlRecError, match=r"dataset\.test_share=0\.5: together they leave nothing to train on"):
        row("dataset.split=global_time", *shares)


@pytest.mark.parametrize(
    ("key", "value"),
    [("rl.kl_loss_coefficient", 0.005), ("reward.missing_item", 1.0), ("rl.algorithm.options.scale", "batch")],
)
def test_a_newer_key_counts_only_if_it_is_not_what_ran_before_it_existed(row, key: str, value: object) -> None:
    asked, name = ("variant=full", "rl/algorithm=item_grpo"), key.rpartition(".")[2]
    usual, other = row(*asked), row(*asked, f"{key}={value}")
    assert f'"{name}"' not in json.dumps(STAGES["rl"].settings(usual))
    assert f'"{name}": {json.dumps(value)}' in json.dumps(STAGES["rl"].settings(other))
    assert changed(usual, other) == {"rl", "evaluate"}


def test_a_seed_of_rl_counts_as_the_seed_in_force_and_for_rows_with_rl_alone(row) -> None:
    usual = row("seed=1")
    settings = STAGES["rl"].settings(usual)
    assert settings["seed"] == 1 and "seed" not in settings["rl"]  # as before the key existed
    assert not changed(usual, row("seed=1", "rl.seed=1"))
    assert not changed(row("variant=v2"), row("variant=v2", "rl.seed=1"))
    assert changed(row("rl.seed=2"), row("seed=1", "rl.seed=2")) == {"teacher", "instructions", "sl", "rl", "evaluate"}
