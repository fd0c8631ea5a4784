"""The stage ``teacher``: the sequential recommender that labels."""

import json
from pathlib import Path

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config
from ctrlrec.config.split import data_label
from ctrlrec.pipeline.inputs import dataset
from ctrlrec.pipeline.settings import trainer_additions
from ctrlrec.pipeline.stage import Inputs, Stage
from ctrlrec.runtime import processes
from ctrlrec.runtime.files import write_text
from ctrlrec.runtime.hardware import check_accelerator


def run(config: Config, inputs: Inputs, directory: Path) -> None:
    """Train the teacher and write its accuracy on validation and test."""
    from ctrlrec.runtime.hardware import prepare_hardware
    from ctrlrec.runtime.loggers import loggers
    from ctrlrec.teacher.train import train_teacher

    prepare_hardware(config.trainer)
    catalogue, sequences = dataset(config, inputs)
    with loggers(config, "teacher", directory) as made:
        metrics = train_teacher(config.teacher, config.trainer, catalogue, sequences, config.seed, directory, made, [])
    processes.once(lambda: write_text(directory / "teacher.json", json.dumps(metrics, indent=2)))


STAGE = Stage(
    "teacher",
    lambda _: ("data",),
    lambda c: {"teacher": plain(c.teacher), "seed": c.seed, **trainer_additions(c)},
    lambda c: f"{data_label(c.dataset)}-{c.teacher.name}",
    run,
    "lower teacher.batch_size",
    shared=lambda _: True,
    check=lambda c: check_accelerator(c.trainer),
)
