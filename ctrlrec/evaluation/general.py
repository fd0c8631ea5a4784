"""General ability after training: MMLU and GSM8K by lm-evaluation-harness, in process (Section 3.3, Table 5).

The harness's own tasks are asked, with their prompts, filters and metrics; only their data may come from local files.
Its extra is optional: ``pip install ctrlrec[lm-eval]``.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ctrlrec.config.schema import Config, GeneralConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.files import write_text

HUB = "hub"
_MMLU_ANSWERS = {**{str(index): index for index in range(4)}, **{sign: index for index, sign in enumerate("ABCD")}}
_GSM8K_FILTER = "strict-match"  # the number after ####, the form that the examples show


def asked(config: Config) -> bool:
    """Return whether this row is asked: a source is named and the answers are a causal model's in this process."""
    named = config.general.mmlu is not None or config.general.gsm8k is not None
    return named and config.variant.answers_with == "model" and config.model.kind != "encoder_decoder"


def unasked_because(config: Config) -> str:
    """Return why :func:`asked` is false, for the log."""
    if config.general.mmlu is None and config.general.gsm8k is None:
        return "MMLU and GSM8K are not asked: set general.mmlu and general.gsm8k to a folder, or general=hub"
    return f"MMLU and GSM8K are not asked: row {config.variant.name} has no causal language model in this process"


def source_digest(config: GeneralConfig) -> str:
    """Digest the local files."""
    digest = hashlib.sha256()
    for path in _local_files(config):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Exam:
    """One metric of Table 5: the harness's tasks, the field of their samples that says right or wrong, and examples."""

    metric: str
    field: str
    shots: int
    tasks: list[Any]


def exams(config: GeneralConfig) -> list[Exam]:
    """Read the questions that will be asked; called before anything long, so that a fault shows at once.

    Raises:
        CtrlRecError: if the harness is not installed or a file is not what it should be.
    """
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise CtrlRecError(
            f"general ability needs lm-evaluation-harness ({error}): pip install 'ctrlrec[lm-eval]', or set "
            "general.mmlu=null general.gsm8k=null"
        ) from None
    every = (
        Exam("MMLU", "acc", config.mmlu_shots, _mmlu_tasks(config.mmlu)),
        Exam("GSM8K", "exact_match", config.gsm8k_shots, _gsm8k_tasks(config.gsm8k)),
    )
    return [exam for exam in every if exam.tasks]


def general_scores(
    model: Any, tokenizer: Any, asked: Sequence[Exam], limit: int | None, batch_size: int, device: str, folder: Path
) -> dict[str, np.ndarray]:
    """Return whether each question was answered right: MMLU over all subjects' questions, and GSM8K.

    Args:
        model: whole, in evaluation mode; a causal language model.
        tokenizer: of the model.
        asked: from :func:`exams`.
        limit: questions of each task; None for all.
        batch_size: of the harness.
        device: where the model is.
        folder: keeps what each task gave, and what it holds is not asked again: of local files a task is one subject.

    Returns:
        0.0 or 1.0 for each question, by metric.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    served = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=device)
    scores = {}
    for exam in asked:
        correct: list[float] = []
        for task in exam.tasks:
            kept = folder / f"{task if isinstance(task, str) else task['group']}.json"
            if not kept.exists():
                found = simple_evaluate(
                    served,
                    tasks=[task],
                    num_fewshot=exam.shots,
                    limit=limit,
                    bootstrap_iters=0,
                    task_manager=_harness(),
                )
                samples = [sample for rows in found["samples"].values() for sample in rows]
                if exam.metric == "GSM8K":
                    samples = [sample for sample in samples if sample["filter"] == _GSM8K_FILTER]
                write_text(kept, json.dumps([float(sample[exam.field]) for sample in samples]))
            correct += json.loads(kept.read_text(encoding="utf-8"))
        scores[exam.metric] = np.array(correct)
    return scores


@cache
def _harness() -> Any:
    """Return the harness's index of its tasks, which takes seconds to make."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _mmlu_tasks(source: str | None) -> list[Any]:
    if source is None:
        return []
    if source == HUB:
        return ["mmlu"]
    subjects = sorted(path.name.removesuffix("_test.csv") for path in (Path(source) / "test").glob("*_test.csv"))
    if not subjects:
        raise CtrlRecError(f"general.mmlu={source}: expected test/SUBJECT_test.csv and dev/SUBJECT_dev.csv in it")
    known = set(_harness().all_tasks)
    if unknown := [subject for subject in subjects if f"mmlu_{subject}" not in known]:
        raise CtrlRecError(f"{source}/test/{unknown[0]}_test.csv: {unknown[0]} is not a subject of MMLU; take it out")
    return [_with_data(f"mmlu_{subject}", read_mmlu(Path(source), subject)) for subject in subjects]


def _gsm8k_tasks(source: str | None) -> list[Any]:
    if source is None:
        return []
    return ["gsm8k"] if source == HUB else [_with_data("gsm8k", read_gsm8k(Path(source)))]


def _with_data(task: str, splits: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return a harness task over other data as a group of one; only members of a group may differ from their file."""

    def dataset(**_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()})

    return {"group": f"local_{task}", "task": [{"task": task, "custom_dataset": dataset}]}


def read_mmlu(folder: Path, subject: str) -> dict[str, list[dict[str, Any]]]:
    """Read the examples and the questions of one subject, in either published form of the files.

    The original has no header and a letter as answer; another has a header and an index from 0.

    Raises:
        CtrlRecError: naming file and line.
    """
    splits = {}
    for split in ("dev", "test"):
        path = folder / split / f"{subject}_{split}.csv"
        rows = []
        for number, fields in _csv(path):
            if number == 1 and fields[-1].strip().lower() == "answer":
                continue
            if len(fields) != 6 or fields[5].strip() not in _MMLU_ANSWERS:
                raise CtrlRecError(
                    f"{path}:{number}: expected a question, four choices and an answer of A to D or 0 to 3"
                )
            rows.append({
                "question": fields[0], "choices": fields[1:5], "answer": _MMLU_ANSWERS[fields[5].strip()],
                "subject": subject,
            })  # fmt: skip
        splits[split] = _some(rows, path)
    return splits


def read_gsm8k(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return examples (train) and questions (test) of GSM8K, one JSON object with question and answer a line.

    Raises:
        CtrlRecError: naming file and line.
    """
    splits = {}
    for split in ("train", "test"):
        path, rows = folder / f"{split}.jsonl", []
        for number, line in enumerate(_text(path).split("\n"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                question, answer = row["question"], row["answer"]
                if not (isinstance(question, str) and isinstance(answer, str)):
                    raise ValueError("one of them is not text")
                if not re.search(r"#### \S", answer):
                    raise ValueError("no '#### number' in the answer")
                rows.append({"question": question, "answer": answer})
            except (ValueError, KeyError, TypeError) as error:
                raise CtrlRecError(f"{path}:{number}: expected an object with question and answer ({error})") from None
        splits[split] = _some(rows, path)
    return splits


def _some(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    if not rows:
        raise CtrlRecError(f"{path}: no question in it; fetch it again")
    return rows


def _csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    # Not splitlines: questions hold other line separators of Unicode.
    reader = csv.reader(io.StringIO(_text(path)))
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, fields
    except csv.Error as error:  # a quote that is opened and never closed runs into the limit of a field
        raise CtrlRecError(
            f"{path}:{reader.line_num}: not CSV ({error}); look for a quote that is not closed"
        ) from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CtrlRecError(f"{path}: cannot be read ({error})") from None


def _local_files(config: GeneralConfig) -> Iterator[Path]:
    if config.mmlu not in (None, HUB):
        yield from sorted(Path(str(config.mmlu)).glob("*/*.csv"))
    if config.gsm8k not in (None, HUB):
        yield from sorted(Path(str(config.gsm8k)).glob("*.jsonl"))
