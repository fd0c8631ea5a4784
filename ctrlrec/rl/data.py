"""The data of RL as Lightning wants it: the prompts of an iteration, and validation questions."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from ctrlrec.config.schema import RLConfig
from ctrlrec.controls.instruction import Instruction
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.runtime import processes


@dataclass(frozen=True, slots=True)
class Prompts:
    """The questions of one iteration.

    Attributes:
        iteration: from 0.
        instructions: the prompts, those of all processes.
    """

    iteration: int
    instructions: list[Instruction]


class Iterations(Dataset):
    """The prompts of each iteration of a range.

    Args:
        builder: makes them, from its seed and the iteration alone.
        config: their number and the list lengths asked for.
        iterations: of the range.
    """

    def __init__(self, builder: InstructionBuilder, config: RLConfig, iterations: range):
        self.builder, self.config, self.iterations = builder, config, iterations

    def __len__(self) -> int:
        return len(self.iterations)

    def __getitem__(self, index: int) -> Prompts:
        iteration = self.iterations[index]
        counts = (self.config.item_count_min, self.config.item_count_max)
        return Prompts(iteration, self.builder.rollout_prompts(iteration, self.config.prompts, counts))


class RLData(pl.LightningDataModule):
    """Prompts to learn from and, with ``rl.validate_every``, questions to validate with.

    A Lightning epoch, with its checkpoint, is one iteration.

    Args:
        builder: makes prompts and questions.
        config: of RL.
        batch_size: most validation questions answered at a time.
    """

    def __init__(self, builder: InstructionBuilder, config: RLConfig, batch_size: int):
        super().__init__()
        self.builder, self.config, self.batch_size = builder, config, batch_size

    def train_dataloader(self) -> DataLoader:
        """Return the prompts of the next iteration."""
        assert self.trainer is not None
        now = self.trainer.current_epoch
        return DataLoader(Iterations(self.builder, self.config, range(now, now + 1)), batch_size=None, num_workers=0)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch as it is: instructions are text and numbers."""
        return batch

    def val_dataloader(self) -> DataLoader | list:
        """Return the validation questions in batches, the same at every validation; empty if none is wanted."""
        if self.config.validate_every is None:
            return []
        asked = self.builder.validation_questions()
        # Short batches for several processes, so that each has its share.
        size = min(self.batch_size, -(-len(asked) // processes.count()))
        batches = [asked[begin : begin + size] for begin in range(0, len(asked), size)]
        return DataLoader(batches, batch_size=None, num_workers=0)  # type: ignore[arg-type]
