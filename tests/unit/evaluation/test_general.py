"""MMLU and GSM8K from local files, against the numbers that a hand-made loop over the model gives."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from compose_general import general_config
from transformers import PreTrainedModel

from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.general import exams, general_scores, read_gsm8k, read_mmlu, source_digest
from ctrlrec.lm.chat_format import ChatFormat

# Other line separators of Unicode stand in questions and choices, as in the published files.
QUESTIONS = [
    (f"What is {n} plus {n}, roughly?", [str(2 * n), str(n), "no\x85\u2028ne", 'a, "b"\nc'], n % 4) for n in range(14)
]


def write_mmlu(folder: Path, subject: str, header: bool) -> Path:
    for split, rows in (("dev", QUESTIONS[:2]), ("test", QUESTIONS[2:])):
        path = folder / split / f"{subject}_{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if header:
                writer.writerow(["question", "choice0", "choice1", "choice2", "choice3", "answer"])
            for question, choices, answer in rows:
                writer.writerow([question, *choices, answer if header else "ABCD"[answer]])
    return folder


def write_gsm8k(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 3), ("test", 4)):
        rows = [
            {"question": f"{n} and {n}?", "answer": f"{n} + {n} is <<{n}+{n}={2 * n}>>.\n#### {2 * n}"}
            for n in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


def test_both_published_forms_of_mmlu_are_read_alike(tmp_path: Path) -> None:
    with_header = read_mmlu(write_mmlu(tmp_path / "new", "anatomy", True), "anatomy")
    assert with_header == read_mmlu(write_mmlu(tmp_path / "old", "anatomy", False), "anatomy")
    assert [len(with_header[split]) for split in ("dev", "test")] == [2, 12]
    first = with_header["dev"][0]
    assert (first["question"], first["choices"], first["answer"]) == QUESTIONS[0]


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [("test/anatomy_test.csv", "a,b,c,d,e,E", "test.csv:1"), ("dev/anatomy_dev.csv", "a,b,c", "dev.csv:1")],
)
def test_a_wrong_line_of_mmlu_is_named(tmp_path: Path, name: str, line: str, said: str) -> None:
    write_mmlu(tmp_path, "anatomy", True)
    (tmp_path / name).write_text(line + "\n")
    with pytest.raises(CtrlRecError, match=said):
        read_mmlu(tmp_path, "anatomy")


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"question": "q"}', '{"question": "q", "answer": "5"}', '{"question": null, "answer": "#### 5"}'],
)
def test_a_wrong_line_of_gsm8k_is_named(tmp_path: Path, line: str) -> None:
    path = write_gsm8k(tmp_path) / "test.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(CtrlRecError, match=r"test\.jsonl:5"):
        read_gsm8k(tmp_path)


def test_a_quote_that_is_never_closed_is_named(tmp_path: Path) -> None:
    write_mmlu(tmp_path, "anatomy", True)
    path = tmp_path / "test" / "anatomy_test.csv"
    path.write_text(path.read_text() + '"' + "a line of the next question\n" * 6000)
    with pytest.raises(CtrlRecError, match=r"anatomy_test\.csv:\d+: not CSV .*quote that is not closed"):
        read_mmlu(tmp_path, "anatomy")


def test_files_without_a_question_are_named(tmp_path: Path) -> None:
    write_mmlu(tmp_path, "anatomy", True)
    (tmp_path / "dev" / "anatomy_dev.csv").write_text("")
    with pytest.raises(CtrlRecError, match=r"anatomy_dev\.csv: no question"):
        read_mmlu(tmp_path, "anatomy")
    (write_gsm8k(tmp_path) / "test.jsonl").write_text("\n")
    with pytest.raises(CtrlRecError, match=r"test\.jsonl: no question"):
        read_gsm8k(tmp_path)


def test_a_subject_that_the_harness_does_not_know_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lm_eval")
    monkeypatch.setattr("ctrlrec.evaluation.general._harness", lambda: SimpleNamespace(all_tasks=["mmlu_anatomy"]))
    write_mmlu(tmp_path, "anatomy", True)
    assert len(exams(general_config(mmlu=str(tmp_path)))) == 1
    write_mmlu(tmp_path, "alchemy", True)
    with pytest.raises(CtrlRecError, match=r"alchemy_test\.csv: alchemy is not a subject"):
        exams(general_config(mmlu=str(tmp_path)))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CtrlRecError, match=r"train\.jsonl"):
        read_gsm8k(tmp_path)
    pytest.importorskip("lm_eval")
    with pytest.raises(CtrlRecError, match=r"SUBJECT_test\.csv"):
        exams(general_config(mmlu=str(tmp_path)))


def test_the_digest_follows_the_files(tmp_path: Path) -> None:
    config = general_config(
        mmlu=str(write_mmlu(tmp_path / "m", "anatomy", True)), gsm8k=str(write_gsm8k(tmp_path / "g"))
    )
    before = source_digest(config)
    assert before == source_digest(config)
    write_mmlu(tmp_path / "m", "anatomy", False)
    assert source_digest(config) != before


@pytest.fixture
def model(make_model: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    return make_model()


def best_letter(model: PreTrainedModel, chat_format: ChatFormat, prompt: str) -> int:
    """The letter that the model finds likeliest after the prompt."""
    scores = []
    for letter in "ABCD":
        ids = chat_format.tokenizer(prompt + " " + letter, add_special_tokens=False)["input_ids"]
        begin = len(chat_format.tokenizer(prompt, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            rows = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], -1)
        scores.append(sum(float(rows[place - 1, ids[place]]) for place in range(begin, len(ids))))
    return max(range(4), key=scores.__getitem__)


def test_mmlu_is_the_share_of_likeliest_letters(model: Any, chat_format: ChatFormat, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    write_mmlu(tmp_path, "anatomy", True)
    write_mmlu(tmp_path, "virology", False)
    asked = exams(general_config(mmlu=str(tmp_path), mmlu_shots=1))
    found = general_scores(model, chat_format.tokenizer, asked, None, 4, "cpu", tmp_path)
    assert set(found) == {"MMLU"} and len(found["MMLU"]) == 24

    def ask(question: str, choices: list[str]) -> str:
        return "\n".join(
            [question, *(f"{letter}. {text}" for letter, text in zip("ABCD", choices, strict=True)), "Answer:"]
        )

    expected = []
    for subject in ("anatomy", "virology"):
        head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        head += ask(*QUESTIONS[0][:2]) + " " + "ABCD"[QUESTIONS[0][2]] + "\n\n"
        for question, choices, answer in QUESTIONS[2:]:
            expected.append(float(best_letter(model, chat_format, head + ask(question, choices)) == answer))
    assert found["MMLU"].tolist() == expected


def test_gsm8k_reads_the_number_behind_the_mark(chat_format: ChatFormat, tmp_path: Path, model: Any) -> None:
    pytest.importorskip("lm_eval")
    asked = exams(general_config(gsm8k=str(write_gsm8k(tmp_path)), gsm8k_shots=1))
    found = general_scores(model, chat_format.tokenizer, asked, 3, 4, "cpu", tmp_path)
    assert set(found) == {"GSM8K"} and found["GSM8K"].tolist() == [0.0, 0.0, 0.0]  # a random model


def test_a_task_that_was_finished_is_not_asked_again(
    chat_format: ChatFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = pytest.importorskip("lm_eval")
    done: list[str] = []

    def examine(_: Any, tasks: list[Any], **__: Any) -> dict[str, Any]:
        (task,) = tasks
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task["group"])
        rows = [{"acc": 1.0, "exact_match": 1.0, "filter": name} for name in ("strict-match", "flexible-extract")]
        return {"samples": {"any": rows}}

    monkeypatch.setattr(harness, "simple_evaluate", examine)
    subjects = ("anatomy", "astronomy", "virology")
    manager = SimpleNamespace(all_tasks=[f"mmlu_{subject}" for subject in subjects])
    monkeypatch.setattr("ctrlrec.evaluation.general._harness", lambda: manager)
    monkeypatch.setattr("lm_eval.models.huggingface.HFLM", lambda **_: None)
    for subject in subjects:
        write_mmlu(tmp_path / "mmlu", subject, True)
    asked = exams(general_config(mmlu=str(tmp_path / "mmlu"), gsm8k=str(write_gsm8k(tmp_path / "gsm8k"))))
    kept = tmp_path / "kept"
    kept.mkdir()
    arguments = (None, chat_format.tokenizer, asked, None, 4, "cpu", kept)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            general_scores(*arguments)
        assert len(done) == 2
    first = list(done)
    done.clear()
    found = general_scores(*arguments)
    assert [*first, *done] == ["local_mmlu_anatomy", "local_mmlu_astronomy", "local_mmlu_virology", "local_gsm8k"]
    assert {name: right.tolist() for name, right in found.items()} == {"MMLU": [1.0] * 6, "GSM8K": [1.0]}
