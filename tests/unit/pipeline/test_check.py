"""What would stop a run later stops it before its first stage."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from ctrlrec.config.checks import check_choices
from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError
from ctrlrec.pipeline import run as pipeline
from ctrlrec.pipeline.plan import STAGES


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., list[str]]:
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\nu,i,1\n")
    (tmp_path / "items.jsonl").write_text('{"item": "i", "title": "t", "categories": ["c"]}\n')
    words = ["dataset=records", f"dataset.path={tmp_path}", f"output={tmp_path}/runs", f"cache={tmp_path}/cache"]
    return lambda *more: [*words, "logger=csv", "trainer=cpu", *more]


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extras that are not installed."""
    found = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name in ("vllm", "flash_attn") else found(name, *rest)

    for place in ("ctrlrec.generation.engines.vllm.find_spec", "ctrlrec.lm.checks.find_spec"):
        monkeypatch.setattr(place, find)


def model(folder: Path, text: str | None) -> str:
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text("{}")
    if text is not None:
        (folder / "config.json").write_text(text)
    return f"model.path={folder}"


def test_a_constraint_that_the_algorithm_cannot_sample_under_is_refused() -> None:
    config = compose("variant=trl_grpo")
    OmegaConf.set_readonly(config, False)
    STAGES["rl"].check(config)
    config.constraint.name = "fresh"
    STAGES["rl"].check(config)  # of answers alone
    config.rl.constrained = True
    with pytest.raises(CtrlRecError, match=r"constraint\.name=fresh rl\.algorithm\.name=trl_grpo: it samples freely"):
        STAGES["rl"].check(config)
    config.rl.micro_tokens = 4000
    with pytest.raises(
        CtrlRecError, match=r"rl\.micro_tokens=4000 rl\.algorithm\.name=trl_grpo: .* rl\.micro_batch_size"
    ):
        check_choices(config)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["generation.engine=vllm"], "ctrlrec[vllm]"),
        (["variant=api", "api.key_variable=NO_SUCH_KEY"], "NO_SUCH_KEY"),
        (["generation.engine=api", "api.key_variable=NO_SUCH_KEY"], "NO_SUCH_KEY"),
        (["model.attention=flash_attention_2"], "needs a GPU"),
        (["variant=v1", "model.attention=flash_attention_2", "stage=sl"], "needs a GPU"),
        (["model.attention=varlen"], "needs a GPU"),
        (["model.attention=flash_atention_2"], "did you mean 'flash_attention_2'?"),
        (["model=hf", "model.path=/no/such/model"], "no such folder"),
        (["general.mmlu=/no/such/folder"], "general.mmlu=/no/such/folder"),
        (["general.gsm8k=/no/such/folder"], "/no/such/folder"),
        (["instructions.chat_path=/no/such/file"], "instructions.chat_path"),
        (["trainer=gpu"], "trainer.accelerator=gpu"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_what_cannot_be_is_said_before_anything_is_made(
    asked, missing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(CtrlRecError) as refusal:
        pipeline.run(compose(*asked(*words)))
    assert said in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "runs").exists()


def test_a_harness_that_is_missing_is_said_first(asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(CtrlRecError, match=r"ctrlrec\[lm-eval\]"):
        pipeline.run(compose(*asked("general=hub")))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "config.json: cannot be read"), ("[]", "no model_type in it"), ('{"a": 1}', "no model_type in it")],
)
def test_a_folder_whose_model_cannot_be_read_is_refused(asked, tmp_path: Path, text: str, said: str) -> None:
    words = asked("model=hf", model(tmp_path / "model", text))
    with pytest.raises(CtrlRecError, match=said):
        pipeline.check(compose(*words))


def test_dialogues_of_which_none_can_be_used_are_refused(asked, tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text(json.dumps({"conversations": []}) + "\n")
    with pytest.raises(CtrlRecError, match=r"chat\.jsonl"):
        pipeline.check(compose(*asked(f"instructions.chat_path={tmp_path}/chat.jsonl")))


def test_what_a_row_does_not_use_is_not_checked(asked, missing: None) -> None:
    """A teacher needs no backbone's attention, no vLLM and no key."""
    words = ("generation.engine=vllm", "model.attention=flash_attention_2", "api.key_variable=NO_SUCH_KEY")
    assert list(pipeline.check(compose(*asked("variant=sasrec", *words)))) == ["data", "teacher", "evaluate"]
    assert list(pipeline.check(compose(*asked("variant=v1", "stage=teacher", *words)))) == ["data", "teacher"]


def test_what_is_finished_is_not_checked_again(asked, missing: None) -> None:
    words = asked("variant=zero_shot", "generation.engine=vllm")
    (directory,) = [step.directory for name, step in pipeline.plan(compose(*words)).items() if name == "evaluate"]
    with pytest.raises(CtrlRecError, match="vLLM"):
        pipeline.check(compose(*words, "stale=reuse"))
    directory.mkdir(parents=True)
    pipeline.check(compose(*words, "stale=reuse"))
