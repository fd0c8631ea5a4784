"""The stage ``sl``: supervised fine-tuning."""

from pathlib import Path

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config
from ctrlrec.config.unrecorded import as_before
from ctrlrec.lm.checks import check_backbone
from ctrlrec.pipeline.inputs import cache_folder
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.pipeline.settings import (
    constrained,
    constraint_label,
    labelled,
    model_settings,
    trainer_additions,
    without,
)
from ctrlrec.pipeline.stage import Inputs, Stage
from ctrlrec.runtime.hardware import precision, settled


def run(config: Config, inputs: Inputs, directory: Path) -> None:
    """Fine-tune the backbone on instructions."""
    from ctrlrec.lm.policy import load_policy
    from ctrlrec.runtime.loggers import loggers
    from ctrlrec.sl.train import fine_tune

    builder, chat_format = load_builder(config, inputs)
    model = load_policy(
        settled(config), cache_folder(config), chat_format.tokenizer, config.seed, items=chat_format.items
    )
    with loggers(config, "sl", directory) as made:
        fine_tune(config, model, chat_format, builder, directory, made)


STAGE = Stage(
    "sl",
    lambda _: ("data", "teacher", "instructions"),
    lambda c: {
        "sl": as_before("sl", without(c.sl, "micro_batch_size", "micro_tokens", "constrained")),
        "model": model_settings(c),
        "tasks": plain(c.variant.tasks),
        "seed": c.seed,
        "precision": precision(c.trainer),
        **trainer_additions(c),
        **constrained(c, "sl"),
    },
    lambda c: labelled(c, *(task[:4] for task in c.variant.tasks)) + constraint_label(c, "sl"),
    run,
    "lower sl.micro_batch_size, on a GPU set sl.micro_tokens below what the log says, or set "
    "trainer.activation_checkpointing=true, which change no result",
    shared=lambda _: True,
    check=check_backbone,
)
