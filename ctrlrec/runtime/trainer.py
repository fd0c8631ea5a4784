"""Lightning's trainer over our settings."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from ctrlrec.config.schema import TrainerConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import launcher, processes
from ctrlrec.runtime.callbacks import CALLBACKS
from ctrlrec.runtime.files import write_bytes
from ctrlrec.runtime.hardware import device, precision
from ctrlrec.runtime.progress import PhaseProfiler, ProgressLines

_LAST = "last.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """Write checkpoints that are whole or not there.

    Lightning's own are written to the system's temporary folder and moved: a kill during a move between two file
    systems leaves half a file.

    Args:
        every: writes every Nth of those named ``last.ckpt``; those in between are held in memory until
            :meth:`flush`. All others are written at once.
    """

    def __init__(self, every: int = 1):
        super().__init__()
        self.every = every
        self._count = 0
        self._held: tuple[Path, io.BytesIO] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Hold a checkpoint in memory, or write it beside the old file and move it to its place."""
        buffer, path = io.BytesIO(), Path(path)
        torch.save(checkpoint, buffer)
        if path.name != _LAST:
            _write(path, buffer)
            return
        self._held = path, buffer
        self._count += 1
        if self._count % self.every == 0:
            self.flush()

    def flush(self) -> None:
        """Write the checkpoint that is held, if there is one."""
        held, self._held = self._held, None
        if held is not None:
            _write(*held)


def _write(path: Path, buffer: io.BytesIO) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getbuffer())


class SideBySide(DDPStrategy):
    """Train in several processes whose modules sum their gradients themselves.

    Args:
        config: says whether they compute on GPUs, of which a process may see its own alone.
    """

    def __init__(self, config: TrainerConfig):
        # Lightning looks up the device by a process's number on its machine, in a list of as many.
        each = processes.count() // launcher.nodes()
        super().__init__(parallel_devices=[launcher.gpu()] * each if launcher.on_gpus(config) else None)

    def configure_ddp(self) -> None:
        """Leave the module as it is: each process may take a different number of micro-batches."""


def trainer(
    config: TrainerConfig,
    directory: Path,
    made: Sequence[Logger],
    callbacks: Sequence[Callback],
    max_epochs: int,
    checkpoint_every: int = 1,
    **options: Any,
) -> pl.Trainer:
    """Return a Lightning trainer over our settings.

    Args:
        config: hardware, precision and what is shown.
        directory: of the stage.
        made: loggers.
        callbacks: of the stage; those that show progress are added.
        max_epochs: or fewer, if a callback stops training.
        checkpoint_every: of :class:`WholeCheckpoints`.
        options: further arguments of the Lightning trainer.
    """
    shown: list[Callback] = []
    if config.progress:
        shown = [TQDMProgressBar() if sys.stderr.isatty() else ProgressLines()]
    return pl.Trainer(
        accelerator=device(config).type,
        devices=1 if launcher.on_gpus(config) else processes.count() // launcher.nodes(),
        num_nodes=launcher.nodes(),
        strategy=SideBySide(config) if processes.count() > 1 else "auto",
        precision=precision(config),  # type: ignore[arg-type]
        default_root_dir=directory,
        # Lightning would take a shell inside a SLURM job for one of its tasks.
        plugins=[WholeCheckpoints(checkpoint_every), *([LightningEnvironment()] if processes.count() == 1 else [])],
        logger=list(made),
        callbacks=[*callbacks, *shown, *(CALLBACKS[name](**given) for name, given in config.callbacks.items())],
        max_epochs=max_epochs,
        enable_model_summary=False,
        enable_progress_bar=bool(shown) and sys.stderr.isatty(),
        use_distributed_sampler=False,
        profiler=PhaseProfiler(directory / "logs") if config.profile and not processes.rank() else None,
        **config.extra,
        **options,
    )


class _Ended(Callback):
    """Remember what ended training: Lightning may fail after it, when it tears down a loader not yet set up."""

    by: BaseException | None = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Keep the exception before anything is torn down."""
        self.by = exception


def train(fit: pl.Trainer, module: pl.LightningModule, checkpoints: Path, data: pl.LightningDataModule) -> None:
    """Train from the last checkpoint, or from the start if there is none.

    Args:
        fit: of :func:`trainer`.
        module: what to train.
        checkpoints: folder that may hold ``last.ckpt``.
        data: what to train on.

    Raises:
        CtrlRecError: if the checkpoint cannot be read.
        KeyboardInterrupt: after Ctrl-C, which Lightning turns into an exit of its own.
        BaseException: whatever else ended the training.
    """
    last = checkpoints / _LAST
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
        fit.fit(module, datamodule=data, ckpt_path=last if last.exists() else None, weights_only=True)
    except BaseException as error:
        if isinstance(ended.by, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        if ended.by is not None and ended.by is not error:
            raise ended.by from None
        raise
    finally:  # after Ctrl-C and SIGTERM too
        io_plugin = fit.strategy.checkpoint_io
        if isinstance(io_plugin, WholeCheckpoints):
            io_plugin.flush()
