"""The Lightning modules of the teacher: its windows, one training step, and its accuracy on held-out items."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, IterableDataset

from ctrlrec.config.compose import typed
from ctrlrec.config.schema import TeacherConfig
from ctrlrec.data.sequences import Sequences
from ctrlrec.runtime import processes
from ctrlrec.runtime.faults import refuse
from ctrlrec.runtime.optimizers import fused
from ctrlrec.teacher.models.base import TeacherModel
from ctrlrec.teacher.ranker import Ranker

CUTOFFS = (5, 10)
_WINDOWS_STREAM = 4  # keeps the random stream of windows apart from others of the same seed


class Windows(IterableDataset):
    """One epoch of training windows in batches.

    The training items of a user are cut into windows from a random offset on. The last item of a window is the first
    of the next, so an epoch asks for every next item once. Over epochs each is asked for after every number of items
    up to the history's length. A batch is a pair (histories, targets) of item indices, both (B, length), padded at the
    end: targets[b, p] follows histories[b, p].

    Args:
        sequences: users; only their training items are read.
        padding: the index that stands for no item.
        batch_size: windows.
        seed: decides offsets and order, together with ``epoch``.
        epoch: counted from 0.
    """

    def __init__(self, sequences: Sequences, padding: int, batch_size: int, seed: int, epoch: int):
        super().__init__()
        self.sequences, self.padding, self.batch_size = sequences, padding, batch_size
        self.seed, self.epoch = seed, epoch

    def windows(self) -> np.ndarray:
        """Return all windows of the epoch, (n, length + 1), in the order in which they are trained on."""
        generator = np.random.default_rng([self.seed, _WINDOWS_STREAM, self.epoch])
        length = self.sequences.history_length
        first, sizes = self.sequences.offsets[:-1], self.sequences.trained
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


class TeacherData(pl.LightningDataModule):
    """The windows of each epoch, and a validation step.

    Args:
        sequences: users.
        padding: the index that stands for no item.
        batch_size: windows.
        seed: decides the windows, together with the epoch.
    """

    def __init__(self, sequences: Sequences, padding: int, batch_size: int, seed: int):
        super().__init__()
        self.sequences, self.padding, self.batch_size, self.seed = sequences, padding, batch_size, seed

    def train_dataloader(self) -> DataLoader:
        """Return the windows of the current epoch; the trainer must ask again in every epoch."""
        assert self.trainer is not None
        windows = Windows(self.sequences, self.padding, self.batch_size, self.seed, self.trainer.current_epoch)
        # A generator of its own: a loader draws a number when it starts, at another point in a resumed run.
        return DataLoader(windows, batch_size=None, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader:
        """Return one empty step, in which the module ranks for every user."""
        return DataLoader([0], batch_size=None)  # type: ignore[arg-type]


def accuracy(ranker: Ranker, sequences: Sequences, split: str) -> dict[str, float]:
    """Return HR and NDCG over the users who have an item of the split; processes share them.

    It is ranked among all items outside the shown history.

    Args:
        ranker: the teacher.
        sequences: users.
        split: ``validation`` or ``test``.

    Returns:
        HR@5, NDCG@5, HR@10, NDCG@10. A target that the history shows counts as missed.
    """
    ask = sequences.validation if split == "validation" else sequences.test
    users = (sequences.validated if split == "validation" else sequences.tested).tolist()
    ranks: list[float] = []
    for begin in processes.share(range(0, len(users), ranker.at_once)):
        histories, targets = zip(*map(ask, users[begin : begin + ranker.at_once]), strict=True)
        placed = ranker.ranks(histories, [[target] for target in targets])
        ranks += [np.inf if rank is None else rank for (rank,) in placed]
    found = np.concatenate(processes.gather(np.asarray(ranks)))
    metrics = {}
    for k in CUTOFFS:
        metrics[f"HR@{k}"] = float((found < k).mean())
        metrics[f"NDCG@{k}"] = float(np.where(found < k, 1 / np.log2(found + 2), 0).mean())
    return metrics


class TeacherModule(pl.LightningModule):
    """Training of a teacher; a checkpoint also holds the teacher's settings and the seed.

    Args:
        model: the teacher.
        config: of the section ``teacher``.
        sequences: users of the validation.
        seed: of the dropout.
    """

    def __init__(self, model: TeacherModel, config: TeacherConfig, sequences: Sequences, seed: int):
        super().__init__()
        # Loggers hold the whole configuration already.
        self.save_hyperparameters({"teacher": asdict(typed(config)), "seed": seed}, logger=False)
        self.model, self.config, self.sequences, self.seed = model, config, sequences, seed

    def on_train_epoch_start(self) -> None:
        """Make the epoch's dropout a function of its number, so that a resumed run equals an undisturbed one."""
        # Dropout draws from the global generator; processes have other windows and draw other numbers.
        torch.manual_seed(processes.own_seed(self.seed, self.current_epoch))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss of one batch of windows; of several processes, each takes its share of them."""
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
        """Add up the gradients of all processes, each of which holds that of its windows."""
        processes.sum_gradients(self.parameters())

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop before the step if the gradient is not finite."""
        gradients = [tensor.grad for tensor in self.parameters() if tensor.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        processes.stop_where(not torch.isfinite(norm), lambda: self._refuse("gradient", self._batch))

    def _refuse(self, what: str, batch: tuple[torch.Tensor, torch.Tensor]) -> NoReturn:
        """Stop before the step; see :func:`refuse`."""
        tensors = {"batch/histories": batch[0], "batch/targets": batch[1], **self.model.state_dict(prefix="weights/")}
        refuse(what, "lower teacher.learning_rate", Path(self.trainer.default_root_dir), tensors)

    def validation_step(self, batch: int, batch_idx: int) -> None:
        """Log the accuracy on the validation items."""
        metrics = accuracy(Ranker(self.model, self.device), self.sequences, "validation")
        self.log_dict({f"validation/{name}": value for name, value in metrics.items()}, batch_size=1)
        self.log("NDCG@10", metrics["NDCG@10"], prog_bar=True, logger=False, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW over all weights."""
        weights, settings = list(self.parameters()), self.config
        return torch.optim.AdamW(
            weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=fused(weights)
        )
