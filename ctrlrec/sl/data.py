"""The data of SL as Lightning wants it: the steps of a validation interval, and the validation samples."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ctrlrec.runtime import processes
from ctrlrec.sl.stream import MicroBatch, Steps, TrainingStream


class SLData(pl.LightningDataModule):
    """Batches to learn from and validation micro-batches.

    A Lightning epoch is one validation interval, so that checkpoints and validations fall together.

    Args:
        stream: gives the batch of every step.
        validation: micro-batches of each kind of instruction.
        total_steps: of the whole schedule.
        validations: intervals that the schedule is cut into.
    """

    def __init__(
        self,
        stream: TrainingStream,
        validation: Sequence[tuple[str, list[MicroBatch]]],
        total_steps: int,
        validations: int,
    ):
        super().__init__()
        self.stream, self.validation, self.total_steps = stream, validation, total_steps
        self.steps_per_interval = -(-total_steps // validations)

    @property
    def intervals(self) -> int:
        """Lightning epochs of the whole schedule."""
        return -(-self.total_steps // self.steps_per_interval)

    def train_dataloader(self) -> DataLoader:
        """Return the steps of the current validation interval."""
        assert self.trainer is not None
        begin = self.trainer.current_epoch * self.steps_per_interval
        steps = range(begin, min(begin + self.steps_per_interval, self.total_steps))
        return DataLoader(Steps(self.stream, steps), batch_size=None, num_workers=0)

    def val_dataloader(self) -> DataLoader:
        """Return validation micro-batches with their kind of instruction and whether they count.

        The last one is repeated, and does not count, until all processes have equally many passes.
        """
        rows = [(task, batch, True) for task, batches in self.validation for batch in batches]
        rows += [(task, batch, False) for task, batch, _ in rows[-1:]] * (-len(rows) % processes.count())
        return DataLoader(rows, batch_size=None, num_workers=0)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the micro-batches of a training or a validation step."""
        return [part.to(device) if isinstance(part, MicroBatch) else part for part in batch]
