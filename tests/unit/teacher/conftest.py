from collections.abc import Callable

import pytest
from teacher_worlds import OPTIONS

from ctrlrec.config.schema import TeacherConfig, TrainerConfig


@pytest.fixture
def settings() -> Callable[..., TeacherConfig]:
    """Small settings of a teacher; keyword arguments change them or the model's own options."""

    def make(**changes) -> TeacherConfig:
        values = {
            "name": "tiny", "model": "sasrec", "learning_rate": 0.01, "weight_decay": 0.0, "batch_size": 16,
            "max_epochs": 3, "patience": 100,
        }  # fmt: skip
        values |= {name: changes.pop(name) for name in tuple(changes) if name in values}
        return TeacherConfig(**values, options=OPTIONS[values["model"]] | changes)

    return make


@pytest.fixture
def hardware() -> TrainerConfig:
    return TrainerConfig(
        name="cpu", accelerator="cpu", devices=1, strategy="auto", precision="32-true", matmul_precision="highest",
        threads=1, progress=False, profile=False, checkpoint_every=1, chunked_head=None, compile=False, workers=0,
        callbacks={}, extra={},
    )  # fmt: skip
