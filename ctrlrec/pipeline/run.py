"""What each stage needs and leaves; runs what is missing and reuses what is there.

A result lives in ``<output>/<stage>/<label>-<fingerprint>``. The fingerprint covers exactly the configuration and the
upstream fingerprints that determine the result: two variants that share a stage share its directory, and a sweep that
is run again finds every finished part. Work happens in ``<directory>.partial`` under a file lock and is published by
one rename, so no reader ever sees half a result and a killed stage goes on from its own checkpoints.
"""

import hashlib
import json
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from ctrlrec.config.checks import SECRET
from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config, StageName
from ctrlrec.errors import CtrlRecError
from ctrlrec.pipeline import data, evaluate, instructions, rl, sl, teacher
from ctrlrec.pipeline.settings import instruction_set
from ctrlrec.pipeline.stage import Result, Stage
from ctrlrec.runtime import launcher, processes, provenance, user
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.files import check_files, record_files, write_text

log = logging.getLogger(__name__)

# Raised by hand when a stage's code changes what it leaves for the same configuration.
_RESULT_VERSION = {"data": 3, "teacher": 1, "instructions": 2, "sl": 1, "rl": 2, "evaluate": 3}


STAGES: Mapping[str, Stage] = {
    module.STAGE.name: module.STAGE for module in (data, teacher, instructions, sl, rl, evaluate)
}


def requested(config: Config) -> list[str]:
    """The stages that ``stage=`` asks for by name; what they need comes with them."""
    if config.stage.name != StageName.all:
        return [str(config.stage.name.value)]
    return ["instructions", "evaluate"] if config.variant.tasks else ["evaluate"]


def run(config: Config) -> dict[str, Result]:
    """Bring the requested stage and everything upstream of it into being.

    Returns:
        The results by stage name.

    Raises:
        CtrlRecError: where a stage cannot be done; what finished before it stays.
    """
    results: dict[str, Result] = {}
    user.settle(config.cache)
    provenance.code_at_start()  # before the tree can move on: both are remembered
    for room in {room for stage in STAGES.values() for room in stage.code}:
        provenance.code_digest(room)
    with explained(Path(config.output)):
        launcher.join(config.trainer)
        for name in requested(config):
            _ensure(name, config, results)
        processes.once(lambda: _report(config, results))
    return results


def _report(config: Config, results: Mapping[str, Result]) -> None:
    if "instructions" in results and not instruction_set(config):
        from ctrlrec.reporting.data_tables import write_data_tables
        from ctrlrec.reporting.report import tables_folder

        write_data_tables(results["data"].directory, results["instructions"].directory, tables_folder(config))
        log.info("%-12s done   Tables 1 and 7 in %s", "tables", tables_folder(config))
    if "evaluate" in results:
        from ctrlrec.reporting.report import report

        report(config, results["evaluate"].directory)


def _ensure(name: str, config: Config, results: dict[str, Result]) -> None:
    if name in results:
        return
    stage = STAGES[name]
    needs = stage.needs(config)
    for need in needs:
        _ensure(need, config, results)
    upstream = {need: results[need] for need in needs}
    with ExitStack() as held:
        result, determined_by = processes.once(lambda: _claim(stage, config, upstream, held))
        if not result.reused:
            inputs = {need: made.directory for need, made in upstream.items()}
            _make(stage, config, inputs, result.directory, determined_by)
    results[name] = result


def _identity(stage: Stage, config: Config, upstream: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """A result's fingerprint, and what determines it: settings and the fingerprints of what it is made from."""
    determined_by = {
        "stage": stage.name,
        "version": _RESULT_VERSION[stage.name],
        "settings": stage.settings(config),
        "upstream": dict(upstream),
    }
    text = json.dumps(determined_by, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12], determined_by


def planned(config: Config) -> dict[str, str]:
    """The fingerprint of every result that :func:`run` would make or reuse, by stage; nothing is made."""
    found: dict[str, str] = {}

    def add(name: str) -> None:
        if name in found:
            return
        stage = STAGES[name]
        needs = stage.needs(config)
        for need in needs:
            add(need)
        found[name], _ = _identity(stage, config, {need: found[need] for need in needs})

    for name in requested(config):
        add(name)
    return found


def _claim(
    stage: Stage, config: Config, upstream: Mapping[str, Result], held: ExitStack
) -> tuple[Result, dict[str, Any]]:
    """Lock a stage until ``held`` ends; where its result lies, whether it is there, and what determines it."""
    name = stage.name
    fingerprint, determined_by = _identity(stage, config, {need: made.fingerprint for need, made in upstream.items()})
    directory = Path(config.output) / name / f"{stage.label(config)}-{fingerprint}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{directory}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%-12s wait   %s is being made by another process", name, directory)
        lock.acquire()
    held.callback(lock.release)
    return Result(directory, fingerprint, _reuse(stage, directory, determined_by)), determined_by


def _reuse(stage: Stage, directory: Path, determined_by: dict[str, Any]) -> bool:
    if not directory.exists():
        return False
    if _recorded(directory) != determined_by:
        raise CtrlRecError(
            f"{directory}: its stage.json does not record the configuration that its name stands for; "
            "move the directory away and run again"
        )
    check_files(directory)
    _drop_checkpoints(directory)
    changed = _changed_code(stage, directory)
    advice = f"; made by other code of {', '.join(changed)}: delete it to make it anew" if changed else ""
    log.info("%-12s reuse  %s%s", stage.name, directory, advice)
    return True


def _changed_code(stage: Stage, directory: Path) -> list[str]:
    """The rooms whose code is no longer what made a result, as far as that is on record."""
    try:
        made_by = json.loads((directory / "provenance.json").read_text(encoding="utf-8")).get("code", {})
    except (OSError, ValueError):
        return []
    return [room for room in stage.code if made_by.get(room, now := provenance.code_digest(room)) != now]


def _recorded(directory: Path) -> Any:
    """What a directory says it was made from; None where it does not say."""
    try:
        return json.loads((directory / "stage.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _make(
    stage: Stage, config: Config, inputs: dict[str, Path], directory: Path, determined_by: dict[str, Any]
) -> None:
    partial = directory.with_name(directory.name + ".partial")
    processes.once(lambda: _prepare(stage, directory, partial, determined_by))
    if not partial.is_dir():
        raise CtrlRecError(f"{partial}: made by process 0 and not here: output= must lie where all processes see it")
    started = time.monotonic()
    with explained(partial, stage.memory):
        if stage.trains:
            stage.run(config, inputs, partial)
        else:
            processes.once(lambda: stage.run(config, inputs, partial))
    seconds = time.monotonic() - started
    processes.once(lambda: _publish(stage, config, inputs, directory, partial, seconds))
    log.info("%-12s done   in %.0f s", stage.name, time.monotonic() - started)


def _prepare(stage: Stage, directory: Path, partial: Path, determined_by: dict[str, Any]) -> None:
    """Have a partial directory to work in, an earlier attempt's where there is one."""
    resumed = _recorded(partial) == determined_by
    log.info("%-12s %s %s", stage.name, "resume" if resumed else "run   ", directory)
    if partial.exists() and not resumed:  # nobody knows what it was made from
        shutil.rmtree(partial)
    partial.mkdir(exist_ok=True)
    write_text(partial / "stage.json", json.dumps(determined_by, indent=2, ensure_ascii=False))
    provenance.begin_attempt(partial)


def _publish(
    stage: Stage, config: Config, inputs: dict[str, Path], directory: Path, partial: Path, seconds: float
) -> None:
    provenance.write(
        partial,
        command=SECRET.sub("...", shlex.join(["python", "-m", "ctrlrec", *_words()])),
        config=plain(config),
        seconds=seconds,
        processes=processes.count(),
        upstream={need: {"directory": str(path), "fingerprint": path.name[-12:]} for need, path in inputs.items()},
        code={room: provenance.code_digest(room) for room in stage.code},
    )
    record_files(partial)
    partial.rename(directory)
    _drop_checkpoints(directory)


def _words() -> list[str]:
    """Behind ``python -m ctrlrec``; of a row of a sweep its own, since a launcher's process has other arguments."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return list(HydraConfig.get().overrides.task)
    return sys.argv[1:]


def _drop_checkpoints(directory: Path) -> None:
    """Only after publishing: a kill before goes on from them, and a kill in between leaves them to the next reuse."""
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
