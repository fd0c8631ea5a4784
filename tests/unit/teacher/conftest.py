from collections.abc import Callable

import pytest

from ctrlrec.config.schema import TeacherConfig, TrainerConfig


@pytest.fixture
def settings() -> Callable[..., TeacherConfig]:
    def make(**changes) -> TeacherConfig:
        values = {
            "name": "tiny", "embedding": 16, "layers": 1, "heads": 2, "dropout": 0.1, "learning_rate": 0.01,
            "weight_decay": 0.0, "batch_size": 16, "max_epochs": 3, "patience": 100,
        }  # fmt: skip
        return TeacherConfig(**{**values, **changes})

    return make


@pytest.fixture
def hardware() -> TrainerConfig:
    return TrainerConfig(
        name="cpu", accelerator="cpu", devices=1, strategy="auto", precision="32-true", matmul_precision="highest",
        threads=1, progress=False, profile=False, callbacks={}, extra={},
    )  # fmt: skip
