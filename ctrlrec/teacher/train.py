"""Trains the teacher: full softmax at every position, early stopping on validation NDCG@10."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from torch.utils.data import DataLoader, IterableDataset

from ctrlrec.config.schema import TeacherConfig, TrainerConfig
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import processes
from ctrlrec.runtime.faults import refuse
from ctrlrec.runtime.trainer import train, trainer
from ctrlrec.teacher.models.sasrec import SASRec
from ctrlrec.teacher.ranker import Ranker

CUTOFFS = (5, 10)
_MONITOR = "validation/NDCG@10"
_WINDOWS_STREAM = 4  # keeps the random stream of windows apart from others of the same seed


class Windows(IterableDataset):
    """One epoch of training windows in batches.

    Every user's training items are cut from a random offset on into windows that share one item, the last of one being
    the first of the next: an epoch asks for every next item once, and over epochs each is asked for after every
    number of items up to the history's length. A batch is a pair (histories, targets), both (B, length) item indices
    padded behind with the catalogue's size: targets[b, p] follows histories[b, p].

    Args:
        sequences: users; their last two items are never read.
        padding: the index that stands for no item.
        batch_size: windows.
        seed: with :attr:`epoch`, decides offsets and order.

    Attributes:
        epoch: the epoch that the next iteration gives, counted from 0.
    """

    def __init__(self, sequences: Sequences, padding: int, batch_size: int, seed: int):
        super().__init__()
        self.sequences, self.padding, self.batch_size, self.seed = sequences, padding, batch_size, seed
        self.epoch = 0

    def windows(self) -> np.ndarray:
        """All windows of the epoch, (n, length + 1), in the order in which they are trained on."""
        generator = np.random.default_rng([self.seed, _WINDOWS_STREAM, self.epoch])
        length = self.sequences.history_length
        first, sizes = self.sequences.offsets[:-1], np.diff(self.sequences.offsets) - 2
        # A user's windows start at offset < 0, offset + length, ..., as long as an item and its successor are left.
        offsets = -generator.integers(1, length + 1, len(sizes))
        counts = np.where(sizes > 1, -((offsets + 1 - sizes) // length), 0)
        user = np.repeat(np.arange(len(sizes)), counts)
        within = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
        starts = offsets[user] + within * length
        columns = np.maximum(starts, 0)[:, None] + np.arange(length + 1)
        inside = columns < np.minimum(sizes[user], starts + length + 1)[:, None]
        places = np.where(inside, first[user][:, None] + columns, 0)
        cut = np.where(inside, self.sequences.items[places], self.padding)
        cut = cut[inside.sum(1) > 1]
        return generator.permutation(cut).astype(np.int64)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in torch.from_numpy(self.windows()).split(self.batch_size):
            yield batch[:, :-1], batch[:, 1:]


def accuracy(ranker: Ranker, sequences: Sequences, split: str) -> dict[str, float]:
    """HR and NDCG over all users, ranked among all items that the shown history does not hold; processes share users.

    Args:
        ranker: the teacher.
        sequences: users.
        split: ``validation`` or ``test``.

    Returns:
        HR@5, NDCG@5, HR@10, NDCG@10. A target that the history shows counts as missed.
    """
    ask = sequences.validation if split == "validation" else sequences.test
    ranks: list[float] = []
    for begin in processes.share(range(0, len(sequences), ranker.at_once)):
        users = range(begin, min(begin + ranker.at_once, len(sequences)))
        histories, targets = zip(*(ask(user) for user in users), strict=True)
        placed = ranker.ranks(histories, [[target] for target in targets])
        ranks += [np.inf if rank is None else rank for (rank,) in placed]
    found = np.concatenate(processes.gather(np.asarray(ranks)))
    metrics = {}
    for k in CUTOFFS:
        metrics[f"HR@{k}"] = float((found < k).mean())
        metrics[f"NDCG@{k}"] = float(np.where(found < k, 1 / np.log2(found + 2), 0).mean())
    return metrics


class TeacherModule(pl.LightningModule):
    """SASRec under Lightning."""

    def __init__(self, model: SASRec, config: TeacherConfig, sequences: Sequences, seed: int):
        super().__init__()
        self.model, self.config, self.sequences, self.seed = model, config, sequences, seed
        self.windows = Windows(sequences, model.padding, config.batch_size, seed)

    def train_dataloader(self) -> DataLoader:
        """Windows of the training items."""
        # A generator of its own: a loader draws a number when it starts, at another point in a resumed run.
        return DataLoader(self.windows, batch_size=None, generator=torch.Generator())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the epoch after the saved one: a resumed trainer asks for windows before it starts the epoch."""
        self.windows.epoch = checkpoint["epoch"] + 1

    def on_train_epoch_start(self) -> None:
        """Make the epoch a function of its number, so that a resumed run equals an undisturbed one."""
        self.windows.epoch = self.current_epoch
        # Dropout draws from the global generator; processes have other windows and draw other numbers.
        torch.manual_seed(processes.own_seed(self.seed, self.current_epoch))

    def val_dataloader(self) -> DataLoader:
        """One empty step: it ranks every user itself."""
        return DataLoader([0], batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Full softmax loss of one batch of windows; of several processes, each takes its share of them."""
        histories, targets = batch
        mine = processes.share(torch.arange(len(targets)))
        # Processes take part in every step: one that has no window left takes the first, which counts for nothing.
        place = mine if len(mine) else torch.zeros(1, dtype=torch.long)
        loss = self.model.loss(histories[place], targets[place])
        processes.stop_where(not torch.isfinite(loss), lambda: self._refuse("loss", (histories[place], targets[place])))
        if processes.count() > 1:  # its part of the mean over all targets
            loss = loss * (targets[mine] != self.model.padding).sum() / (targets != self.model.padding).sum()
        self._batch = batch
        self.log(  # the parts of several processes are averaged
            "train/loss",
            loss * processes.count(),
            on_step=False,
            on_epoch=True,
            batch_size=len(targets),
            sync_dist=processes.count() > 1,
        )
        return loss

    def on_after_backward(self) -> None:
        """Every process holds the gradient of its windows."""
        processes.sum_gradients(self.parameters())

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Look at the gradient before it is followed."""
        gradients = [tensor.grad for tensor in self.parameters() if tensor.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        processes.stop_where(not torch.isfinite(norm), lambda: self._refuse("gradient", self._batch))

    def _refuse(self, what: str, batch: tuple[torch.Tensor, torch.Tensor]) -> NoReturn:
        """Stop before the step; see :func:`refuse`."""
        tensors = {"batch/histories": batch[0], "batch/targets": batch[1], **self.model.state_dict(prefix="weights/")}
        refuse(what, "lower teacher.learning_rate", Path(self.trainer.default_root_dir), tensors)

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Accuracy on the validation items."""
        metrics = accuracy(Ranker(self.model, self.device), self.sequences, "validation")
        self.log_dict({f"validation/{name}": value for name, value in metrics.items()}, batch_size=1)
        self.log("NDCG@10", metrics["NDCG@10"], prog_bar=True, logger=False, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay)


class _Stop(EarlyStopping):
    """Early stopping that remembers: a run that is resumed after its last epoch trains no further."""

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
        config: sizes and schedule.
        trainer_config: hardware.
        catalogue: gives the number of items.
        sequences: users; the last two items of each are not trained on.
        seed: initial weights, windows and dropout.
        directory: where ``sasrec.safetensors`` and ``sasrec.json`` go; checkpoints found there are gone on from.
        loggers: of this stage.
        callbacks: added to the trainer's own.

    Returns:
        ``{"epochs": trained, "best_epoch": counted from 1, "validation": {HR@5, ..}, "test": {..}}``.

    Raises:
        CtrlRecError: where no user has an item to learn behind another.
    """
    if np.diff(sequences.offsets).max() < 4:
        raise CtrlRecError(
            f"none of {len(sequences)} users has more than 3 items: with the last two held out, nothing is left that "
            "follows another; give longer sequences"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SASRec(
            len(catalogue), sequences.history_length, config.embedding, config.layers, config.heads, config.dropout
        )
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
    )
    module = TeacherModule(model, config, sequences, seed)
    train(fit, module, checkpoints)
    chosen = torch.load(checkpoints / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(chosen["state_dict"])
    module.cpu()
    processes.once(lambda: model.save(directory))
    ranker = Ranker.load(directory)
    splits = {split: accuracy(ranker, sequences, split) for split in ("validation", "test")}
    return {"epochs": fit.current_epoch, "best_epoch": chosen["epoch"] + 1, **splits}
