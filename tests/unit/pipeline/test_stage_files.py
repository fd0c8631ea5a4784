"""Titles are cut to a number of the backbone's tokens; an evaluation that broke off continues and counts all of it."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import vllm_stand_in
from chat_families import family
from chat_server import Server, echo, send, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from side_by_side import side_by_side
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from vllm_stand_in import install_stand_in

from ctrlrec.config.compose import compose
from ctrlrec.data.titles import cut_titles
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation import general
from ctrlrec.generation.engines.auto import Auto
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import with_actor_and_critic
from ctrlrec.lm.backbone import train_tokenizer
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.pipeline import data
from ctrlrec.pipeline import evaluate as evaluation
from ctrlrec.pipeline.answering import shared
from ctrlrec.runtime import processes

TITLES = st.text(st.sampled_from("ab  .\u00e9\u0301\u05e9\u05dc\u0627\u3042\U0001f600"), min_size=1, max_size=40)


@pytest.fixture(scope="module", params=[300, 512])
def backbone(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return train_tokenizer(["a b. ab \u00e9\u0301 \u05e9\u05dc\u05d5\u05dd \u3042\u3042 \U0001f600"] * 9, request.param)


@settings(max_examples=150, deadline=None)
@given(title=TITLES.map(str.strip).filter(bool), limit=st.integers(4, 12))
def test_a_title_keeps_as_many_whole_characters_as_fit(
    backbone: PreTrainedTokenizerFast, title: str, limit: int
) -> None:
    def count(text: str) -> int:
        return len(backbone(text, add_special_tokens=False)["input_ids"])

    (cut,) = cut_titles(backbone, [title], limit)
    assert title.startswith(cut)
    assert cut
    assert cut == cut.strip()
    assert count(cut) <= limit
    assert cut_titles(backbone, [cut], limit) == [cut]
    if cut != title:
        following = title[len(cut) :]
        assert count(cut + following[: len(following) - len(following.lstrip()) + 1]) >= limit - 1


def test_a_character_of_more_tokens_than_allowed_stays() -> None:
    tokens = train_tokenizer(["abc"], 270)
    assert cut_titles(tokens, ["\U0001f600", "\U0001f600b", "ab"], 2) == ["\U0001f600", "\U0001f600", "ab"]
    assert cut_titles(tokens, [], 2) == []


def test_the_tokenizer_that_is_kept_cuts_and_fills_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*_: Any) -> PreTrainedTokenizerBase:
        made = train_tokenizer(["a b c"] * 9, 300)
        made.backend_tokenizer.enable_padding(length=80)
        return made

    titles = [f"{number} is a rather long title" * 4 for number in range(5)]
    (tmp_path / "items.jsonl").write_text(
        "".join(json.dumps({"item": f"i{n}", "title": title, "categories": ["c"]}) + "\n"
                for n, title in enumerate(titles))
    )  # fmt: skip
    rows = [f"u{user},i{(user + step) % 5},{step}" for user in range(6) for step in range(5)]
    (tmp_path / "interactions.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    monkeypatch.setattr("ctrlrec.lm.backbone.make_tokenizer", make)
    config = compose(
        "dataset=records", f"dataset.path={tmp_path}", f"cache={tmp_path}/cache", "dataset.title_max_tokens=12",
        "dataset.min_user_interactions=1", "dataset.min_item_interactions=1",
    )  # fmt: skip
    data.run(config, {}, tmp_path)
    saved = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())
    assert saved["truncation"] is None and saved["padding"] is None
    read = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    assert len(read.encode("a b c " * 40).ids) > 13 and len(read.encode("a").ids) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("variant=zero_shot",), None),
        (("variant=zero_shot", "model.system_prompt=Be kind."), "model.system_prompt lead the first user turn"),
        (("variant=v2",), "those of 1 of 2 dialogues lead the first user turn"),
    ],
)
def test_system_turns_that_a_template_refuses_are_counted_before_anything_is_trained(
    tmp_path: Path, words: tuple[str, ...], said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = family("gemma")
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        eos_token_id=[3, 5],
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [f"u{user},i{(user + step) % 5},{step}" for user in range(6) for step in range(5)]
    (tmp_path / "interactions.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    (tmp_path / "items.jsonl").write_text(
        "".join(json.dumps({"item": f"i{n}", "title": f"title {n}", "categories": ["c"]}) + "\n" for n in range(5))
    )
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    led = [{"role": "system", "content": "Be kind."}, *turns]
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps({"messages": each}) + "\n" for each in (turns, led)))
    config = compose(
        "dataset=records", f"dataset.path={tmp_path}", f"cache={tmp_path}/cache", "model=hf",
        f"model.path={tmp_path}/model", f"instructions.chat_path={tmp_path}/chat.jsonl",
        "dataset.min_user_interactions=1", "dataset.min_item_interactions=1", *words,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "ctrlrec.pipeline.data"):
        data.run(config, {}, tmp_path)
    assert (said or "") in caplog.text and ("system turn" in caplog.text) == bool(said)
    kept = ChatFormat.load(tmp_path / "tokenizer", config.model)
    assert kept.ends == {3, 5, *tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def evaluation_of(
    server: Server, builder: InstructionBuilder, chat_format: ChatFormat, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Callable[[str], Path]]:  # fmt: skip
    """Prepares evaluations of a row with a server's answers, made from results that are only names.

    What is prepared takes the name of a folder of its own.
    """
    monkeypatch.setattr(evaluation, "load_builder", lambda *_: (builder, chat_format))
    monkeypatch.setattr(evaluation, "_whole_model", lambda *_: SimpleNamespace(device="cpu"))

    def prepare(row: str, engine: str = "api", words: tuple[str, ...] = (), **made_by: str) -> Callable[[str], Path]:
        config = compose(
            f"variant={row}", f"generation.engine={engine}", "api=local", f"api.url={server.url}",
            f"cache={tmp_path}/cache", "logger=csv", "trainer.accelerator=cpu", "trainer.progress=false",
            "evaluation.users=4",
            "evaluation.bootstrap_resamples=10", "evaluation.settings=[sequential,category_positive]",
            "trainer.precision=32-true", "generation.max_new_tokens=12", *words,
        )  # fmt: skip
        inputs = {stage: tmp_path / stage / name for stage, name in ({"data": "data-1"} | made_by).items()}

        def run(folder: str) -> Path:
            (tmp_path / folder).mkdir(exist_ok=True)
            evaluation.run(config, inputs, tmp_path / folder)
            return tmp_path / folder

        return run

    return prepare


@pytest.fixture
def evaluate(evaluation_of: Callable[..., Callable[[str], Path]]) -> Callable[..., Path]:
    """Evaluates a row in a folder."""
    return lambda row, folder, engine="api", **made_by: evaluation_of(row, engine, **made_by)(folder)


RESULTS = ("predictions.jsonl", "metrics.json")


def in_two(patch: pytest.MonkeyPatch, evaluation: Callable[[], Path]) -> list[Any]:
    """What each of two processes returned or raised; then this is one again."""
    with patch.context() as meanwhile:
        return side_by_side(meanwhile, lambda _: evaluation())


@pytest.mark.parametrize(("row", "engine"), [("v2", "auto"), ("instructrec", "auto"), ("v2", "vllm")])
def test_two_processes_make_what_one_makes(
    evaluation_of: Callable[..., Callable[[str], Path]], make_model: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch, row: str, engine: str,
) -> None:  # fmt: skip
    """Of three questions process 0 answers two. Of one it answers all, and the other process starts no vLLM."""
    install_stand_in(monkeypatch)
    models = [make_model() for _ in range(3)]
    monkeypatch.setattr(evaluation, "_whole_model", lambda *_: models.pop())
    asked: list[tuple[int, int]] = []

    def counted(answerer: Any) -> Any:
        return shared(lambda questions: asked.append((processes.rank(), len(questions))) or answerer(questions))

    monkeypatch.setattr(evaluation, "shared", counted)
    words = ("evaluation.users=3", "evaluation.item_count=2", "constraint=catalogue")  # or no list would be written
    if engine == "vllm":
        words = ("evaluation.users=1",)
    words = (*words, "evaluation.settings=[sequential]")
    evaluate = evaluation_of(row, engine, words, sl="sl-1")
    alone = evaluate("one")
    answers = [json.loads(line)["items"] for line in (alone / "predictions.jsonl").open()]
    assert engine == "vllm" or (all(None not in items for items in answers) and answers[0] != answers[1])
    assert asked == [(0, len(answers))]
    asked.clear()
    first, second = in_two(monkeypatch, lambda: evaluate("two"))
    assert first == second
    assert sorted(asked) == ([(0, 1)] if engine == "vllm" else [(0, 2), (1, 1)])
    for name in RESULTS:
        assert (first / name).read_bytes() == (alone / name).read_bytes()
    assert len(vllm_stand_in.STARTED) == (2 if engine == "vllm" else 0) and not vllm_stand_in.RUNNING


def test_processes_stop_together_and_resume_together(
    evaluation_of: Callable[..., Callable[[str], Path]], make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process fails in the second setting; the first setting is not asked again."""
    models = [make_model() for _ in range(5)]
    monkeypatch.setattr(evaluation, "_whole_model", lambda *_: models.pop())
    evaluate = evaluation_of("v2", "auto", sl="sl-1")
    alone, asked = evaluate("one"), []
    answers = Auto._answers

    def fail(*arguments: Any) -> Any:
        asked.append(processes.rank())
        if processes.rank() == 1 and asked.count(1) == 2:
            raise ValueError("own words")
        return answers(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Auto, "_answers", fail)
        first, second = in_two(monkeypatch, lambda: evaluate("two"))
    assert isinstance(first, CtrlRecError) and "process 0 stopped: process 1 failed" in str(first)
    assert isinstance(second, ValueError) and str(second) == "own words"
    directory = alone.with_name("two")
    assert [path.name for path in directory.glob("*ed*")] == ["answered"]
    assert [path.name for path in (directory / "answered").iterdir()] == ["sequential.jsonl"]
    asked.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Auto, "_answers", lambda *arguments: asked.append(processes.rank()) or answers(*arguments))
        in_two(monkeypatch, lambda: evaluate("two"))
    assert sorted(asked) == [0, 1]
    for name in RESULTS:
        assert (directory / name).read_bytes() == (alone / name).read_bytes()
    assert not (directory / "answered").exists()


@pytest.mark.parametrize(
    ("answers_with", "engine", "expected"),
    [
        *(("model", engine, True) for engine in ("auto", "native", "hf", "vllm")),
        *(("model", "api", False), ("api", "auto", False), ("teacher", "auto", False)),
    ],
)
def test_the_teacher_and_servers_are_asked_by_one_process(answers_with: str, engine: str, expected: bool) -> None:
    variant, generation = SimpleNamespace(answers_with=answers_with), SimpleNamespace(engine=engine)
    config: Any = SimpleNamespace(variant=variant, generation=generation)
    assert evaluation.STAGE.shared(config) is expected


def test_a_server_is_asked_by_process_0_alone(
    evaluation_of: Callable[..., Callable[[str], Path]], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = evaluation_of("api")
    first, second = in_two(monkeypatch, lambda: processes.once(lambda: evaluate("two")))
    assert first == second and len(server.requests) == 8
    assert json.loads((first / "api.json").read_text())["answers"] == 8


def test_engines_of_this_machine_make_one_result(
    evaluate: Callable[..., Path], make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model with an actor beside its weights, as RL leaves it; vLLM is a stand-in."""
    install_stand_in(monkeypatch)
    model = with_actor_and_critic(make_model(), 4, 8, critic=False).get_base_model()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.3)
    monkeypatch.setattr(evaluation, "_whole_model", lambda *_: model)
    made = [evaluate("full", engine, engine, sl="sl-1", rl="rl-1") for engine in ("auto", "vllm")]
    for name in ("predictions.jsonl", "metrics.json"):
        assert (made[0] / name).read_bytes() == (made[1] / name).read_bytes()
    assert not vllm_stand_in.RUNNING and not (made[1] / "api.json").exists()
    monkeypatch.setattr("ctrlrec.evaluation.answering.read_answers", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate("full", "broken", "vllm", sl="sl-1", rl="rl-1")
    assert not vllm_stand_in.RUNNING


def test_answers_of_one_trained_model_are_not_taken_for_those_of_another(
    evaluate: Callable[..., Path], server: Server
) -> None:
    """All of them are served under one address and one name."""
    made = [
        ("v2", {"sl": "sl-1"}), ("full", {"sl": "sl-1", "rl": "rl-1"}), ("full", {"sl": "sl-1", "rl": "rl-2"}),
        ("zero_shot", {}), ("zero_shot", {"data": "data-2"}),
    ]  # fmt: skip
    for number, (row, made_by) in enumerate(made):
        for again in range(2):
            asked = len(server.requests)
            directory = evaluate(row, f"{number}-{again}", **made_by)
            report = json.loads((directory / "api.json").read_text())
            assert report["answers"] == 8 and report["from_cache"] == 8 * again
            assert len(server.requests) == asked + 8 * (not again)


def test_a_model_that_other_code_made_again_is_asked_again(
    evaluate: Callable[..., Path], server: Server, tmp_path: Path
) -> None:
    (tmp_path / "sl" / "sl-1").mkdir(parents=True)
    for number, made in enumerate(("a", "b")):
        (tmp_path / "sl" / "sl-1" / "provenance.json").write_text(json.dumps({"made": made}))
        evaluate("v2", str(number), sl="sl-1")
    assert len(server.requests) == 16


def test_answers_of_a_foreign_model_are_shared(evaluate: Callable[..., Path], server: Server) -> None:
    evaluate("api", "0", data="data-1")
    evaluate("api", "1", data="data-2")
    assert len(server.requests) == 8


def test_the_report_counts_settings_answered_before_a_run_broke_off(
    evaluate: Callable[..., Path], server: Server
) -> None:
    server.script = [echo] * 4
    server.otherwise = lambda handler, _: send(handler, 400, "stop")
    with pytest.raises(CtrlRecError, match="stop"):
        evaluate("api", "0")
    server.otherwise = echo
    directory = evaluate("api", "0")
    report = json.loads((directory / "api.json").read_text())
    assert (report["answers"], report["from_cache"], report["prompt_tokens"]) == (8, 4, 160)
    assert not (directory / "answered").exists()


def test_examinations_keep_what_is_done_until_the_evaluation_ends(
    evaluate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[list[str]] = []

    def examine(*arguments: Any) -> dict[str, Any]:
        folder = arguments[-1]
        kept.append([path.name for path in folder.glob("local_*")])
        (folder / "local_mmlu.json").write_text("[]")
        if len(kept) == 1:
            raise KeyboardInterrupt
        return {"MMLU": np.ones(3)}

    monkeypatch.setattr(general, "asked", lambda _: True)
    monkeypatch.setattr(general, "exams", lambda _: ["MMLU"])
    monkeypatch.setattr(general, "general_scores", examine)
    with pytest.raises(KeyboardInterrupt):
        evaluate("v2", "0", sl="sl-1")
    directory = evaluate("v2", "0", sl="sl-1")
    assert kept == [[], ["local_mmlu.json"]]
    assert json.loads((directory / "metrics.json").read_text())["settings"]["general"]["MMLU"]["n"] == 3
    assert not (directory / "answered").exists()
