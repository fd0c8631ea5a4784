"""The definition of a stage."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrlrec.config.schema import Config

Inputs = dict[str, Path]  # finished upstream directories by stage name


def _nothing_to_check(config: Config) -> None:
    """Accept every configuration."""


def _by_one(config: Config) -> bool:
    """Leave every configuration to process 0."""
    return False


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
        memory: advice for running out of memory.
        shared: whether every process takes part; otherwise process 0 does it alone, as in a run of one process.
        check: called with the configuration before the first stage of a run that will make this result; refuses what
            is known to stop it. Imports nothing heavy and reads no large file.
    """

    name: str
    needs: Callable[[Config], tuple[str, ...]]
    settings: Callable[[Config], dict[str, Any]]
    label: Callable[[Config], str]
    run: Callable[[Config, Inputs, Path], None]
    memory: str = ""
    shared: Callable[[Config], bool] = _by_one
    check: Callable[[Config], None] = _nothing_to_check


@dataclass(frozen=True)
class Result:
    """A finished stage.

    Attributes:
        directory: of the result.
        fingerprint: of what determines it.
        made: tells it apart from a result of the same fingerprint that other code made.
        reused: whether this run found it.
    """

    directory: Path
    fingerprint: str
    made: str
    reused: bool
