"""Progress of a stage: bars, lines in logs, and the seconds of each phase."""

import logging
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.profilers import SimpleProfiler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ctrlrec.config.schema import TrainerConfig
from ctrlrec.runtime import processes

log = logging.getLogger(__name__)


class ProgressLines(Callback):
    """Progress for logs and pipes, where a bar would leave thousands of lines: one line every 20 seconds."""

    def __init__(self) -> None:
        self._started = self._spoken = 0.0
        self._steps = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; a resumed run counts its own steps."""
        self._started = self._spoken = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say where training is, how fast it goes, and how long this epoch or interval still takes."""
        self._steps += 1
        now = time.monotonic()
        if now - self._spoken < 20:
            return
        self._spoken = now
        rate = self._steps / (now - self._started)
        size = trainer.num_training_batches
        place = f"part {trainer.current_epoch + 1} of at most {trainer.max_epochs}, step {batch_idx + 1}"
        if math.isfinite(size):
            left = (size - batch_idx - 1 + ((trainer.max_epochs or 1) - trainer.current_epoch - 1) * size) / rate
            place += f" of {int(size)}, {left:.0f} s left"
        shown = ", ".join(f"{name} {float(value):.4g}" for name, value in trainer.progress_bar_metrics.items())
        log.info("%-12s %s, %.2f steps/s, %s", "", place, rate, shown)


# Lightning's names of the phases of a training, and plain ones.
_PHASES = (
    (r"train_dataloader_next$", "batches"),
    (r"^\[Strategy\]\w+\.training_step$", "training steps"),
    (r"^\[Strategy\]\w+\.backward$", "backward passes"),
    (r"^\[LightningModule\]\w+\.optimizer_step$|^optimizer_step$", "optimiser steps"),
    (r"^\[Strategy\]\w+\.validation_step$", "validation steps"),
    (r"^save_checkpoint$", "checkpoints"),
    (r"^phase: ", ""),
)


class PhaseProfiler(SimpleProfiler):
    """Lightning's durations as a Markdown table of the phases that matter to a reader; written when the training ends.

    A phase ends when the GPU has done its work, and not when it was given the last of it.

    Args:
        directory: ``profile.md`` goes there; a resumed training adds its own table.
    """

    def __init__(self, directory: Path):
        super().__init__()
        self.directory = directory

    def start(self, action_name: str) -> None:
        """Begin a phase after the work of what came before."""
        _wait_for_gpu()
        super().start(action_name)

    def stop(self, action_name: str) -> None:
        """End a phase with its work done."""
        _wait_for_gpu()
        super().stop(action_name)

    def describe(self) -> None:
        """Append the table of this training."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "profile.md").open("a", encoding="utf-8") as file:
            file.write(self.summary() + "\n")

    def summary(self) -> str:
        """List the phases with what each took, the longest first; some lie within others."""
        rows, _, whole = self._make_report_extended()
        lines = [
            f"{whole:.1f} s in all. Some phases lie within others: backward passes within training or optimiser steps.",
            "",
            "| phase | times | seconds each | seconds | share |",
            "| --- | --- | --- | --- | --- |",
        ]
        for action, mean, times, total, share in rows:
            for pattern, name in _PHASES:
                if re.search(pattern, action):
                    phase = name or re.sub(pattern, "", action)
                    lines.append(f"| {phase} | {times} | {mean:.4f} | {total:.2f} | {share:.1f}% |")
                    break
        return "\n".join(lines) + "\n"


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextmanager
def progress(config: TrainerConfig, label: str, total: int) -> Iterator[Any]:
    """Show a bar with rate and remaining time for loops outside a trainer; yield a function that advances it.

    Process 0 alone shows one, of its own share.
    """
    if not config.progress or processes.rank():
        yield lambda count: None
        return
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)
