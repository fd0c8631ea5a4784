"""The stage ``instructions``: one epoch of the instruction set and its counts (Table 7)."""

import dataclasses
import json
import logging
from pathlib import Path

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config
from ctrlrec.config.unrecorded import as_before
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.pipeline.settings import dialogues, instruction_set, labelled
from ctrlrec.pipeline.stage import Inputs, Stage
from ctrlrec.runtime.files import write_jsonl, write_text

log = logging.getLogger(__name__)


def run(config: Config, inputs: Inputs, directory: Path) -> None:
    """Write one epoch of the instruction set and its counts (Table 7); the trainer builds the others alike."""
    from collections import Counter

    builder, chat_format = load_builder(config, inputs)
    examples = builder.epoch(0, builder.families)
    write_jsonl(directory / "instructions.jsonl", (example.record(builder.catalogue) for example in examples))
    write_jsonl(directory / "validation.jsonl", (example.record(builder.catalogue) for example in builder.validation()))
    counts = Counter(example.instruction.task for example in examples)
    report = {"counts": counts, "total": len(examples), "chat": dataclasses.asdict(builder.chat_report)}
    if chat_format.folds_system:
        first_roles = [example.instruction.messages[0][0] for example in examples]
        report["folded_system_turns"] = first_roles.count("system")
    log.info("%-12s %s", "chat", builder.chat_report)
    write_text(directory / "counts.json", json.dumps(report, indent=2))


def _check(config: Config) -> None:
    """Refuse chat data of the user's own in which no dialogue can be used."""
    from ctrlrec.instructions.chat import load_dialogues, source_digest

    if source_digest(config.instructions.chat_path) is not None:  # a file
        load_dialogues(config.instructions.chat_path)


STAGE = Stage(
    "instructions",
    lambda _: ("data", "teacher"),
    lambda c: (
        {
            "instructions": as_before("instructions", plain(c.instructions)) | dialogues(c),
            "prompt": [c.model.max_length, c.model.max_response_length, c.model.system_prompt],
            "seed": c.seed,
        }
        | instruction_set(c)
    ),
    labelled,
    run,
    check=_check,
)
