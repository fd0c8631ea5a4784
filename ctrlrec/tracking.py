"""Trainers and loggers: Lightning's trainer, CSV always, Weights & Biases as configured, progress with rates."""

import ctypes
import io
import json
import logging
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import transformers
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.profilers import SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ctrlrec import processes
from ctrlrec.config import Config, TrainerConfig, plain
from ctrlrec.errors import CtrlRecError
from ctrlrec.provenance import native_bfloat16, write_bytes

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def wandb_mode(configured: str) -> str:
    """``logger.wandb`` with auto settled: online where a key is configured, offline otherwise."""
    if configured != "auto":
        return configured
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    netrc = Path.home() / ".netrc"
    return "online" if netrc.is_file() and "wandb" in netrc.read_text(errors="ignore") else "offline"


@contextmanager
def loggers(config: Config, job_type: str, directory: Path) -> Iterator[list[Logger]]:
    """The loggers of one stage, closed however the stage ends; none in processes other than the first.

    Args:
        config: its ``logger`` section decides; dataset, model and variant become tags.
        job_type: the stage's name.
        directory: metrics go to ``logs/attempt_N/metrics.csv`` in it, N counting the starts of a resumed stage.
    """
    if processes.rank():
        yield []
        return
    attempts = len(list((directory / "logs").glob("attempt_*")))
    made: list[Logger] = [CSVLogger(directory, name="logs", version=f"attempt_{attempts}", flush_logs_every_n_steps=1)]
    mode = wandb_mode(config.logger.wandb)
    if mode != "disabled":
        os.environ.setdefault("WANDB_SILENT", "true")
        made.append(
            WandbLogger(
                project=config.logger.project,
                entity=config.logger.entity,
                save_dir=directory,
                offline=mode == "offline",
                group=config.logger.group or f"{config.dataset.name}-{config.model.name}-{config.budget.name}",
                job_type=job_type,
                name=f"{job_type}-{config.variant.name}-seed{config.seed}",
                tags=[config.dataset.name, config.model.name, config.variant.name],
                config=plain(config),
            )
        )
    status = "failed"
    try:
        yield made
        status = "success"
    finally:
        for logger in made:
            logger.finalize(status)
        if mode != "disabled":
            import wandb

            wandb.finish(exit_code=0 if status == "success" else 1)


def prepare_hardware(config: TrainerConfig) -> None:
    """Threads, memory and matrix-product precision of this process.

    Raises:
        CtrlRecError: where a GPU is asked for and there is none.
    """
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        raise CtrlRecError(
            "trainer.accelerator=gpu: torch finds no GPU that it can use; use trainer.accelerator=cpu, or install the "
            "driver and a build of torch that belong to the GPU"
        )
    if config.threads:
        torch.set_num_threads(config.threads)
    on_cpu = device(config).type == "cpu"
    if on_cpu:
        keep_freed_memory()
    torch.set_float32_matmul_precision(config.matmul_precision)
    if config.precision.startswith("bf16") and on_cpu and not native_bfloat16():
        log.warning(
            "trainer.precision=%s: this processor has no bfloat16 units, and emulating them takes ten times as long as "
            "float32 and more; trainer.precision=auto chooses by the hardware", config.precision
        )  # fmt: skip
    # What these libraries say about themselves at every start would bury what a run has to say.
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\..*")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors; ``MALLOC_*`` in the environment goes before.

    It would give large ones back at every step, and the kernel clears each page of the next: up to a third of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None or any(name.startswith("MALLOC_") for name in os.environ):
        return
    for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
        mallopt(option, 2**31 - 1)


def precision(config: TrainerConfig) -> str:
    """``trainer.precision``; auto is bf16-mixed where the hardware multiplies bfloat16 natively, 32-true elsewhere.

    Trained weights and optimiser states are float32 either way; frozen ones are as ``model.dtype`` says.
    """
    if config.precision != "auto":
        return config.precision
    if device(config).type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if native_bfloat16() else "32-true"


def device(config: TrainerConfig) -> torch.device:
    """Where models run outside a trainer: evaluation."""
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")


def autocast(config: TrainerConfig) -> torch.autocast:
    """The trainer's precision outside a trainer: evaluation multiplies as training does."""
    return torch.autocast(device(config).type, torch.bfloat16, enabled=precision(config) == "bf16-mixed")


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


# What Lightning calls the phases of a training, as a reader would.
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
    """Lightning's durations as a Markdown table of the phases that a reader knows; written when the training ends.

    Args:
        directory: ``profile.md`` goes there; a resumed training adds its own table.
    """

    def __init__(self, directory: Path):
        super().__init__()
        self.directory = directory

    def describe(self) -> None:
        """Append the table of this training."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "profile.md").open("a", encoding="utf-8") as file:
            file.write(self.summary() + "\n")

    def summary(self) -> str:
        """The phases with what each took, the longest first; some lie within others."""
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


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there.

    Lightning's own are written to the system's temporary folder and moved: a kill during a move between two file
    systems leaves half a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write beside the old file, then take its place."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(path), buffer.getbuffer())


class SideBySide(DDPStrategy):
    """Several processes whose modules sum their gradients themselves, any number of micro-batches in each."""

    def configure_ddp(self) -> None:
        """Wrap nothing."""


def trainer(
    config: TrainerConfig,
    directory: Path,
    made: Sequence[Logger],
    callbacks: Sequence[Callback],
    max_epochs: int,
    **options: Any,
) -> pl.Trainer:
    """A Lightning trainer over our settings."""
    shown: list[Callback] = []
    if config.progress:
        shown = [TQDMProgressBar() if sys.stderr.isatty() else ProgressLines()]
    return pl.Trainer(
        accelerator=device(config).type,
        devices=processes.count() // processes.nodes(),
        num_nodes=processes.nodes(),
        strategy=SideBySide() if processes.count() > 1 else "auto",
        precision=precision(config),  # type: ignore[arg-type]
        default_root_dir=directory,
        # Lightning would take a shell inside a SLURM job for one of its tasks.
        plugins=[WholeCheckpoints(), *([LightningEnvironment()] if processes.count() == 1 else [])],
        logger=list(made),
        callbacks=[*callbacks, *shown],
        max_epochs=max_epochs,
        enable_model_summary=False,
        enable_progress_bar=bool(shown) and sys.stderr.isatty(),
        use_distributed_sampler=False,
        profiler=PhaseProfiler(directory / "logs") if config.profile and not processes.rank() else None,
        **options,
    )


class _Ended(Callback):
    """Remembers what ended training: Lightning may fail behind it, when it tears down a loader not yet set up."""

    by: BaseException | None = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Called before anything is torn down."""
        self.by = exception


def train(fit: pl.Trainer, module: pl.LightningModule, checkpoints: Path) -> None:
    """Train from the last checkpoint on, or from the start where there is none.

    Args:
        fit: of :func:`trainer`.
        module: what to train.
        checkpoints: folder that may hold ``last.ckpt``.

    Raises:
        CtrlRecError: where the checkpoint cannot be read.
        KeyboardInterrupt: after Ctrl-C, which Lightning turns into an exit of its own.
        BaseException: whatever else ended the training.
    """
    last = checkpoints / "last.ckpt"
    if last.exists():
        try:
            torch.load(last, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # a damaged file can fail at any point of the reader
            raise CtrlRecError(
                f"{last}: cannot be read ({str(error).splitlines()[0]}); delete {checkpoints.parent} to start this "
                "stage over"
            ) from None
    ended = _Ended()
    fit.callbacks.insert(0, ended)  # type: ignore[attr-defined]
    try:
        fit.fit(module, ckpt_path=last if last.exists() else None, weights_only=True)
    except BaseException as error:
        if isinstance(ended.by, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        if ended.by is not None and ended.by is not error:
            raise ended.by from None
        raise


@contextmanager
def progress(config: TrainerConfig, label: str, total: int) -> Iterator[Any]:
    """A bar with rate and remaining time for loops outside a trainer; yields a function that advances it."""
    if not config.progress:
        yield lambda count: None
        return
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def log_answers(made: Sequence[Logger], rows: Sequence[dict[str, Any]], columns: Sequence[str], most: int = 50) -> None:
    """A W&B table of some answers, evenly spread over the rows."""
    sampled = rows[:: max(1, len(rows) // most)]
    for logger in made:
        if isinstance(logger, WandbLogger):
            data = [[json.dumps(row[name], ensure_ascii=False) for name in columns] for row in sampled]
            logger.log_text("answers", columns=list(columns), data=data)


def log_summary(made: Sequence[Logger], metrics: dict[str, Any]) -> None:
    """Every metric of every setting, into the W&B summary and the CSV file."""
    for logger in made:
        if isinstance(logger, WandbLogger):
            for setting, values in metrics["settings"].items():
                for metric, cell in values.items():
                    logger.experiment.summary[f"{setting}/{metric}"] = cell["value"]
        else:
            for setting, values in metrics["settings"].items():
                logger.log_metrics({f"{setting}/{metric}": cell["value"] for metric, cell in values.items()})
