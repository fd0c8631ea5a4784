"""Load a model that recommends: of a finished result, or a released one.

A released model is a folder that :mod:`ctrlrec.app.release` wrote:

| file | what |
| --- | --- |
| ``model/`` | the whole model after SL and RL, weights in bfloat16 |
| ``teacher.safetensors``, ``teacher_model.json`` | the teacher, for ranks |
| ``release.json`` | name, configuration, checksums of the data, how the model was made |
| ``metrics.json`` | the numbers of its row in the tables, of these very weights |
| ``data/`` | catalogue and tokenizer, only if the data may be passed on |
| ``README.md`` | the model card |
"""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ctrlrec.config.choices import nearest
from ctrlrec.config.compose import recorded
from ctrlrec.config.schema import Config
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.adapters import tokenizer_digest
from ctrlrec.lm.policy import load_policy
from ctrlrec.pipeline.data import write_data
from ctrlrec.pipeline.inputs import cache_folder
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.runtime import results
from ctrlrec.runtime.files import check_files, sha256_of
from ctrlrec.runtime.hardware import device, settled
from ctrlrec.runtime.user import settle

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ctrlrec.instructions.builder import InstructionBuilder
    from ctrlrec.lm.chat_format import ChatFormat

log = logging.getLogger(__name__)

RECORD, FORMAT = "release.json", 1
_STAGES = ("sl", "rl", "evaluate")  # whose results hold a model that recommends
_LISTED = 10  # results that an error names


@dataclass(frozen=True)
class Parts:
    """A model with what asks it and judges its answers.

    Attributes:
        name: of the result or of the released model.
        config: that it was made with; answers need a terminal, a device and threads of this machine instead.
        builder: catalogue, users, teacher and wording.
        chat_format: prompt format.
        model: in evaluation mode; None if the teacher answers.
    """

    name: str
    config: Config
    builder: "InstructionBuilder"
    chat_format: "ChatFormat"
    model: "PreTrainedModel | None"


def load(path: Path) -> Parts:
    """Load a released model, a finished result of the stages sl, rl or evaluate, or the only row of an output folder.

    Raises:
        CtrlRecError: if there is no such thing, or its files are not as they were left.
    """
    if (path / RECORD).is_file():
        return _load_released(path)
    return _load_result(result_of(path))


def models_folder() -> Path:
    """Return the folder of released models: inside the installed package, or beside it in a checkout."""
    packaged = Path(str(resources.files("ctrlrec"))) / "models"
    return packaged if packaged.is_dir() else packaged.parents[1] / "models"


def released(name: str | None = None) -> Path:
    """Return the folder of a released model.

    Args:
        name: of the model, or its folder; None for the only one there is.

    Raises:
        CtrlRecError: if there is no such model, or several and no name.
    """
    if name is not None and (Path(name) / RECORD).is_file():
        return Path(name)
    known = {path.parent.name: path.parent for path in sorted(models_folder().glob(f"*/{RECORD}"))}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if not known:
        raise CtrlRecError(
            f"no released model in {models_folder()}: name a finished result, --run runs/evaluate/NAME; "
            "'make demo' makes one in minutes"
        )
    if name is None:
        raise CtrlRecError(f"several released models: choose one with --model ({', '.join(known)})")
    if name not in known:
        raise CtrlRecError(f"--model {name}: no such model; {nearest(name, known)}")
    return known[name]


def result_of(path: Path) -> Path:
    """Return a finished result; of an output folder the only one of its stage ``evaluate``.

    Raises:
        CtrlRecError: if there is none, or several.
    """
    if (path / "provenance.json").is_file():
        return path
    for folder in (path / "evaluate", path):
        rows = results.finished(folder, "metrics.json") if folder.is_dir() else []
        if len(rows) == 1:
            return rows[0]
        if rows:
            names = "".join(f"\n  {row}" for row in rows[:_LISTED])
            raise CtrlRecError(f"{path}: holds {len(rows)} rows; name one of them:{names}")
    raise CtrlRecError(
        f"{path}: no finished result and no released model there; expected a folder such as runs/evaluate/NAME, or "
        f"one with {RECORD}"
    )


def _load_result(directory: Path) -> Parts:
    record = results.read(directory)
    stage = json.loads((directory / "stage.json").read_text(encoding="utf-8"))["stage"]
    if stage not in _STAGES:
        raise CtrlRecError(f"{directory}: a result of the stage {stage}; expected one of {', '.join(_STAGES)}")
    inputs = results.made_from(directory, record["upstream"])
    for name, result in inputs.items():
        if not result.is_dir():
            raise CtrlRecError(
                f"{result}: missing, the stage {name} that {directory.name} was made from; keep the whole output "
                "folder together, or pack the model with 'ctrlrec release'"
            )
    if stage != "evaluate":
        inputs[stage] = directory
    for result in (*inputs.values(), directory):
        check_files(result)
    return _parts(directory.name, recorded(record["config"], **HERE), inputs, stage == "evaluate")


def _load_released(directory: Path) -> Parts:
    """Load a released model; data that it does not hold are fetched once and kept in the cache."""
    record = json.loads((directory / RECORD).read_text(encoding="utf-8"))
    if record.get("format") != FORMAT:
        raise CtrlRecError(
            f"{directory}: packed in format {record.get('format')}, and this version reads format {FORMAT}; use the "
            "version of ctrlrec that packed it"
        )
    check_files(directory, "restore the folder from where it came")
    config = recorded(record["config"], **HERE)
    data = directory / "data" if record["data"]["titles"] == "inside" else _fetched(record, config)
    return _parts(record["name"], config, {"data": data, "teacher": directory, "sl": directory}, True)


# Not taken from a result: settings of the machine that made it, and dialogues, which no recommendation needs.
HERE: dict[str, Any] = {
    "trainer__progress": False,
    "trainer__threads": None,
    "trainer__accelerator": "auto",
    "instructions__chat_path": None,
    "generation__engine": "auto",
}


def _parts(name: str, config: Config, inputs: Mapping[str, Path], evaluated: bool) -> Parts:
    """Load the parts.

    Raises:
        CtrlRecError: for a row whose answers a server gave.
    """
    settle(config.cache)
    answers_with = config.variant.answers_with if evaluated else "model"
    if answers_with == "api":
        raise CtrlRecError(f"{name}: a server gave its answers; name a row whose model is here")
    builder, chat_format = load_builder(config, dict(inputs))
    model = None
    if answers_with == "model":
        stages = inputs.get("sl"), inputs.get("rl")
        model = load_policy(
            settled(config), cache_folder(config), chat_format.tokenizer, config.seed, *stages, items=chat_format.items
        )
        model = model.to(device(config.trainer)).eval()  # type: ignore[arg-type]
    return Parts(name, config, builder, chat_format, model)


def _fetched(record: Mapping[str, Any], config: Config) -> Path:
    """Return the folder of catalogue, sequences and tokenizer, made from the data set's own source at first use.

    Raises:
        CtrlRecError: if the data cannot be fetched, or are not those that the model was trained on.
    """
    from ctrlrec.lm.backbone import load_tokenizer

    expected = record["data"]
    home = cache_folder(config) / "released" / f"{record['name']}-{expected['catalogue'][:12]}"
    home.parent.mkdir(exist_ok=True)
    with FileLock(f"{home}.lock"):
        if not home.exists():
            log.info("%s: preparing the data set %s, once", record["name"], config.dataset.name)
            with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
                Path(scratch, "data").mkdir()
                write_data(config, Path(scratch, "data"))
                Path(scratch, "data").rename(home)
    found = {
        "catalogue": sha256_of(home / "catalogue.jsonl"),
        "sequences": sha256_of(home / "sequences.jsonl"),
        "tokenizer": tokenizer_digest(load_tokenizer(home / "tokenizer")),
    }
    for what, digest in found.items():
        if digest != expected[what]:
            raise CtrlRecError(
                f"{home}: its {what} is not the one that {record['name']} was trained on; delete the folder and try "
                "again with the package versions of constraints.txt"
            )
    return home
