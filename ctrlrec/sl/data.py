"""The data of SL as Lightning wants it: the steps of a validation interval, and the validation samples."""

import logging
import os
import signal
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import processes
from ctrlrec.sl.stream import MicroBatch, Steps, TrainingStream


def _start_worker(number: int) -> None:
    """Leave signals, messages that all workers would repeat, and the limit of open files to the main process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.disable(logging.WARNING)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # or it warns that a process was forked
    torch.multiprocessing.set_sharing_strategy("file_system")


class SLData(pl.LightningDataModule):
    """Batches to learn from and validation micro-batches.

    A Lightning epoch is one validation interval, so that checkpoints and validations fall together.

    Args:
        stream: gives the batch of every step.
        validation: micro-batches of each kind of instruction.
        total_steps: of the whole schedule.
        validations: intervals that the schedule is cut into.
        workers: processes that build batches ahead; 0 builds each when it is asked for. They change no batch.
    """

    def __init__(
        self,
        stream: TrainingStream,
        validation: Sequence[tuple[str, list[MicroBatch]]],
        total_steps: int,
        validations: int,
        workers: int = 0,
    ):
        super().__init__()
        self.stream, self.validation, self.total_steps = stream, validation, total_steps
        self.steps_per_interval, self.workers = -(-total_steps // validations), workers

    @property
    def intervals(self) -> int:
        """Lightning epochs of the whole schedule."""
        return -(-self.total_steps // self.steps_per_interval)

    def train_dataloader(self) -> DataLoader:
        """Return the steps of the current validation interval."""
        assert self.trainer is not None
        begin = self.trainer.current_epoch * self.steps_per_interval
        steps = range(begin, min(begin + self.steps_per_interval, self.total_steps))
        if not self.workers:
            return DataLoader(Steps(self.stream, steps), batch_size=None, num_workers=0)
        self.stream.load(begin)  # once, and not in every worker
        return DataLoader(
            Steps(self.stream, steps),
            batch_size=None,
            num_workers=self.workers,
            multiprocessing_context="fork",  # what the stream holds is shared and not copied
            worker_init_fn=_start_worker,
        )

    def val_dataloader(self) -> DataLoader:
        """Return validation micro-batches with their kind of instruction and whether they count.

        The last one is repeated, and does not count, until all processes have equally many passes.
        """
        rows = [(task, batch, True) for task, batches in self.validation for batch in batches]
        rows += [(task, batch, False) for task, batch, _ in rows[-1:]] * (-len(rows) % processes.count())
        return DataLoader(rows, batch_size=None, num_workers=0)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the micro-batches of a training or a validation step; raise what a worker met."""
        if isinstance(batch, CtrlRecError):
            raise batch
        return [part.to(device) if isinstance(part, MicroBatch) else part for part in batch]
