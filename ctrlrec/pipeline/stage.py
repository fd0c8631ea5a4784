"""What a stage is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrlrec.config.schema import Config

Inputs = dict[str, Path]  # finished upstream directories by stage name


@dataclass(frozen=True)
class Stage:
    """One step of the flow.

    Attributes:
        name: as in ``stage=``.
        needs: names of the upstream stages for a configuration.
        settings: the part of the configuration that determines the result.
        label: the readable part of the directory's name.
        run: called as ``run(config, inputs, directory)`` with the finished upstream directories and the partial
            directory to fill or to resume from.
        code: rooms of the package whose code decides the result.
        memory: advice for running out of memory.
        trains: whether several processes share it; any other stage is done by the first alone.
    """

    name: str
    needs: Callable[[Config], tuple[str, ...]]
    settings: Callable[[Config], dict[str, Any]]
    label: Callable[[Config], str]
    run: Callable[[Config, Inputs, Path], None]
    code: tuple[str, ...]
    memory: str = ""
    trains: bool = False


@dataclass(frozen=True)
class Result:
    """A finished stage: where it lies, its fingerprint, and whether this run made it."""

    directory: Path
    fingerprint: str
    reused: bool
