"""Trains the teacher: full softmax at every position, early stopping on validation NDCG@10."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import Logger

from ctrlrec.config.schema import TeacherConfig, TrainerConfig
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import processes
from ctrlrec.runtime.trainer import train, trainer
from ctrlrec.teacher.models import make_teacher
from ctrlrec.teacher.module import TeacherData, TeacherModule, accuracy
from ctrlrec.teacher.ranker import Ranker

_MONITOR = "validation/NDCG@10"


class _Stop(EarlyStopping):
    """Stop early, and also stop a run that is resumed after its last epoch."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = self.wait_count >= self.patience


def train_teacher(
    config: TeacherConfig,
    trainer_config: TrainerConfig,
    catalogue: Catalogue,
    sequences: Sequences,
    seed: int,
    directory: Path,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
) -> dict[str, Any]:
    """Train, keep the weights with the best validation NDCG@10, and measure them.

    Args:
        config: the model, its options and the schedule.
        trainer_config: hardware.
        catalogue: gives the number of items.
        sequences: users; only their training items are trained on.
        seed: initial weights, windows and dropout.
        directory: where the weights and their description go; training resumes from checkpoints found there.
        loggers: of this stage.
        callbacks: added to the trainer's own.

    Returns:
        ``{"epochs": trained, "best_epoch": counted from 1, "validation": {HR@5, ..}, "test": {..}}``.

    Raises:
        CtrlRecError: if no user has an item to learn after another, or if the model lacks one of the options.
    """
    if sequences.trained.max() < 2:
        raise CtrlRecError(
            f"none of {len(sequences)} users has two items to train on: of what the split leaves, nothing follows "
            "another; give longer sequences"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_teacher(config, len(catalogue), sequences.history_length)
    checkpoints = directory / "checkpoints"
    kept: Any = {"save_on_train_epoch_end": True, "enable_version_counter": False}
    best = ModelCheckpoint(checkpoints, filename="best", monitor=_MONITOR, mode="max", **kept)
    last = ModelCheckpoint(checkpoints, filename="last", **kept)
    stop = _Stop(_MONITOR, mode="max", patience=config.patience, check_on_train_epoch_end=True)
    fit = trainer(
        trainer_config,
        directory,
        loggers,
        [stop, best, last, *callbacks],
        max_epochs=config.max_epochs,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
    )
    module = TeacherModule(model, config, sequences, seed)
    data = TeacherData(sequences, model.padding, config.batch_size, seed)
    train(fit, module, checkpoints, data)
    chosen = torch.load(checkpoints / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(chosen["state_dict"])
    module.cpu()
    processes.once(lambda: model.save(directory))
    ranker = Ranker.load(directory)
    splits = {split: accuracy(ranker, sequences, split) for split in ("validation", "test")}
    return {"epochs": fit.current_epoch, "best_epoch": chosen["epoch"] + 1, **splits}
