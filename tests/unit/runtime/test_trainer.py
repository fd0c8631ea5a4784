"""Lightning's trainer over our settings."""

import csv
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger

from ctrlrec.config.compose import compose
from ctrlrec.runtime.trainer import trainer


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).sum()

    def train_dataloader(self) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(torch.ones(2, 1))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.25)


def test_callbacks_and_further_arguments_reach_lightning(tmp_path: Path) -> None:
    config = compose(
        "trainer.accelerator=cpu", "trainer.progress=false", "+trainer.extra.detect_anomaly=true",
        "+trainer.callbacks.learning_rate_monitor={logging_interval: step}",
    ).trainer  # fmt: skip
    fit = trainer(config, tmp_path, [CSVLogger(tmp_path)], [], max_epochs=1, log_every_n_steps=1)
    assert fit._detect_anomaly
    assert any(isinstance(callback, LearningRateMonitor) for callback in fit.callbacks)
    fit.fit(Line())
    (log,) = tmp_path.rglob("metrics.csv")
    rows = list(csv.DictReader(log.open()))
    assert {row["lr-SGD"] for row in rows} == {"0.25"}
