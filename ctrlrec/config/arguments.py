"""Arguments of Lightning that come from the configuration: checked by name and type against its signatures."""

import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ctrlrec.config.choices import Choices, nearest
from ctrlrec.config.schema import TrainerConfig
from ctrlrec.errors import CtrlRecError

_CALLBACKS: Choices[type] = Choices("runtime.callbacks", "CALLBACK")
# Arguments of pl.Trainer that are ours, and where to set what they stand for.
_OURS = {
    "accelerator": "set trainer.accelerator",
    "strategy": "set trainer.strategy",
    "devices": "start one process for each device",
    "num_nodes": "start one process for each device",
    "precision": "set trainer.precision",
    "logger": "set logger=...",
    "callbacks": "set trainer.callbacks",
    "plugins": "checkpoints are written whole or not at all",
    "profiler": "set trainer.profile",
    "enable_progress_bar": "set trainer.progress",
    "enable_model_summary": "set +trainer.callbacks.model_summary={}",
    "default_root_dir": "set output",
    "max_epochs": "set teacher.max_epochs, sl.epochs or rl.iterations",
    "min_epochs": "set teacher.max_epochs, sl.epochs or rl.iterations",
    "max_steps": "set sl.max_steps or rl.iterations",
    "min_steps": "set sl.max_steps or rl.iterations",
    "max_time": "set sl.max_steps or rl.iterations",
    "val_check_interval": "set sl.validations or rl.validate_every",
    "check_val_every_n_epoch": "set sl.validations or rl.validate_every",
    "limit_val_batches": "set instructions.validation_size",
    "limit_train_batches": "set sl.max_steps or rl.iterations",
    "num_sanity_val_steps": "validation comes at fixed steps",
    "reload_dataloaders_every_n_epochs": "every epoch has data of its own",
    "use_distributed_sampler": "processes share every batch themselves",
    "log_every_n_steps": "every step is logged",
    "enable_checkpointing": "a killed run resumes from its checkpoint",
    "accumulate_grad_batches": "set sl.micro_batch_size or sl.micro_tokens, likewise of rl",
    "gradient_clip_val": "set sl.gradient_clip or rl.gradient_clip",
    "gradient_clip_algorithm": "gradients are clipped by their norm",
    "fast_dev_run": "set smaller numbers, such as sl.max_steps=2",
    "barebones": "a run without logs and checkpoints leaves no result",
}


def check_trainer(config: TrainerConfig) -> None:
    """Check ``trainer.extra`` and ``trainer.callbacks`` by name and type.

    Raises:
        CtrlRecError: naming the key, what was expected and the nearest valid name.
    """
    if config.extra:
        import pytorch_lightning as pl

        _check_arguments("trainer.extra", pl.Trainer, config.extra, _OURS)
    for name, options in config.callbacks.items():
        key = f"trainer.callbacks.{name}"
        if name not in _CALLBACKS:
            raise CtrlRecError(f"{key}: no such callback; {nearest(name, _CALLBACKS)}")
        _check_arguments(key, _CALLBACKS[name], options, {})


def _check_arguments(key: str, called: type, given: Mapping[str, Any], ours: Mapping[str, str]) -> None:
    parameters = inspect.signature(called).parameters
    hints = get_type_hints(called.__init__)  # type: ignore[misc]
    free = [name for name, value in parameters.items() if value.default is not value.empty and name not in ours]
    for name, value in given.items():
        if name in ours:
            raise CtrlRecError(f"{key}.{name}: it is set by this package; {ours[name]}")
        if name not in free:
            raise CtrlRecError(f"unknown key '{key}.{name}': {nearest(name, free)}")
        if name in hints and not _fits(value, hints[name]):
            shown = str(hints[name]).replace("typing.", "")
            raise CtrlRecError(f"{key}.{name}={value!r}: expected {shown}")


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a plain value is of a type; types other than plain ones and their unions fit nothing."""
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin is Union or origin is UnionType:
        return any(_fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is None or hint is NoneType:
        return value is None
    return type(value) is hint or (hint is float and type(value) is int)
