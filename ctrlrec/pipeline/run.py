"""Runs the stages that are missing and reuses what is there.

A result lives in ``<output>/<stage>/<label>-<fingerprint>``. The fingerprint covers exactly the configuration and the
upstream fingerprints that determine the result: two variants that share a stage share its directory, and a sweep that
is run again finds every finished part. Work happens in ``<directory>.partial`` under a file lock and is published by
one rename, so no reader ever sees half a result and a killed stage resumes from its own checkpoints.

A finished result records the code that made it. After an edit of that code, or of the code of anything that it was
made from, ``stale=`` decides: ``error`` names it and stops, ``reuse`` takes it as it is, ``rebuild`` recomputes it.
"""

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

from ctrlrec.config.checks import SECRET, check_choices
from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config, Stale
from ctrlrec.errors import CtrlRecError
from ctrlrec.pipeline.plan import STAGES, Step, outdated, plan, planned, requested
from ctrlrec.pipeline.settings import instruction_set
from ctrlrec.pipeline.stage import Result
from ctrlrec.pipeline.sweep import sharing
from ctrlrec.runtime import code, launcher, processes, provenance, user
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.files import check_files, record_files, write_text
from ctrlrec.runtime.results import read

__all__ = ["STAGES", "check", "planned", "requested", "run"]

log = logging.getLogger(__name__)

_ADVICE = (
    "add stale=rebuild to recompute what changed and all that was made from it, or stale=reuse to take it as it is"
)


def run(config: Config) -> dict[str, Result]:
    """Make or reuse the requested stage and everything upstream of it.

    Returns:
        The results by stage name.

    Raises:
        CtrlRecError: if a stage cannot be done; what finished before it stays.
    """
    results: dict[str, Result] = {}
    user.settle(config.cache)
    provenance.code_at_start()  # before the tree can move on: both are remembered
    code.remember()
    with explained(Path(config.output)):
        launcher.join(config.trainer)
        steps = processes.once(lambda: check(config))
        for name, step in steps.items():
            results[name] = _ensure(step, config, {need: results[need] for need in step.needs})
        processes.once(lambda: _report(config, results))
    return results


def check(config: Config) -> dict[str, Step]:
    """Find what would stop a run later, before its first stage.

    Each stage whose result is not there yet checks what it can (``Stage.check``), and every result that is there is
    compared with the code that would make it now.

    Returns:
        The steps of the run.

    Raises:
        CtrlRecError: naming what to change.
    """
    steps = plan(config)
    made: dict[str, str] = {}
    stale, unfinished = [], []
    for name, step in steps.items():
        upstream = {need: made[need] for need in step.needs}
        why = _outdated(step, upstream)
        if why and config.stale == Stale.error:
            stale.append(why)
        finished = step.directory.exists() and not (why and config.stale == Stale.rebuild)
        if not finished:
            unfinished.append(name)
        made[name] = read(step.directory).get("made", "") if finished else step.made(upstream)
    if unfinished:
        check_choices(config)
    for name in unfinished:
        STAGES[name].check(config)
    if stale:
        raise CtrlRecError(f"{'; '.join(stale)}; {_ADVICE}")
    return steps


def _outdated(step: Step, upstream: Mapping[str, str]) -> str:
    """Return which result of a step, finished or begun, other code made and why; empty if there is none."""
    if step.directory.exists():
        why = step.outdated(read(step.directory), upstream)
        return f"{step.directory}: {why}" if why else ""
    if provenance.resumable(step.partial):
        attempts = provenance.attempts(step.partial)
        why = step.outdated({"earlier_attempts": attempts[:-1]} | (attempts[-1] if attempts else {}), upstream)
        return f"{step.partial}: {why.replace('was made', 'was begun')}" if why else ""
    return ""


def _report(config: Config, results: Mapping[str, Result]) -> None:
    if "instructions" in results and not instruction_set(config):
        from ctrlrec.reporting.data_tables import write_data_tables
        from ctrlrec.reporting.report import tables_folder

        write_data_tables(results["data"].directory, results["instructions"].directory, tables_folder(config))
        log.info("%-12s done   Tables 1 and 7 in %s", "tables", tables_folder(config))
    if "evaluate" in results:
        from ctrlrec.reporting.report import report

        report(config, results["evaluate"].directory, outdated if config.stale != Stale.reuse else lambda _: "")


def _ensure(step: Step, config: Config, upstream: Mapping[str, Result]) -> Result:
    """Reuse the result of a step or make it."""
    with ExitStack() as held:
        result = processes.once(lambda: _claim(step, config, upstream, held))
        return result if result.reused else _make(step, config, upstream)


def _claim(step: Step, config: Config, upstream: Mapping[str, Result], held: ExitStack) -> Result:
    """Lock a step until ``held`` ends, and return its result, which is reused or still to be made."""
    step.directory.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{step.directory}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("%-12s wait   %s is being made by another process", step.name, step.directory)
        lock.acquire()
    held.callback(lock.release)
    made = {need: result.made for need, result in upstream.items()}
    why = _outdated(step, made)  # again: another process may have been at work since the start
    if why and config.stale == Stale.error:
        raise CtrlRecError(f"{why}; {_ADVICE}")
    if why:
        log.info("%-12s stale  %s (stale=%s)", step.name, why, config.stale.value)
    if why and config.stale == Stale.rebuild:
        shutil.rmtree(step.partial, ignore_errors=True)
        return Result(step.directory, step.fingerprint, step.made(made), reused=False)
    if not step.directory.exists():
        return Result(step.directory, step.fingerprint, step.made(made), reused=False)
    if _recorded(step.directory) != step.determined_by:
        raise CtrlRecError(
            f"{step.directory}: its stage.json does not record the configuration that its name stands for; "
            "move the directory away and run again"
        )
    check_files(step.directory)
    _drop_checkpoints(step.directory)
    log.info("%-12s reuse  %s", step.name, step.directory)
    return Result(step.directory, step.fingerprint, read(step.directory).get("made", ""), reused=True)


def _recorded(directory: Path) -> Any:
    """Return what a directory was made from, by its ``stage.json``; None if that cannot be read."""
    try:
        return json.loads((directory / "stage.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _make(step: Step, config: Config, upstream: Mapping[str, Result]) -> Result:
    """Make the result of a step and publish it."""
    stage, partial = STAGES[step.name], step.partial
    inputs = {need: result.directory for need, result in upstream.items()}
    processes.once(lambda: _prepare(step, config, upstream))
    if not partial.is_dir():
        raise CtrlRecError(f"{partial}: made by process 0 and not here: output= must lie where all processes see it")
    started = time.monotonic()
    with explained(partial, stage.memory):
        if stage.shared(config):
            stage.run(config, inputs, partial)
        else:
            processes.once(lambda: stage.run(config, inputs, partial))
    seconds = time.monotonic() - started
    result = processes.once(lambda: _publish(step, config, upstream, seconds))
    log.info("%-12s done   in %.0f s", step.name, time.monotonic() - started)
    return result


def _prepare(step: Step, config: Config, upstream: Mapping[str, Result]) -> None:
    """Make the partial directory, or keep that of an earlier attempt to resume from it."""
    resumed = _recorded(step.partial) == step.determined_by
    log.info("%-12s %s %s", step.name, "resume" if resumed else "run   ", step.directory)
    if step.partial.exists() and not resumed:  # it is unknown what it was made from
        shutil.rmtree(step.partial)
    step.partial.mkdir(exist_ok=True)
    write_text(step.partial / "stage.json", json.dumps(step.determined_by, indent=2, ensure_ascii=False))
    made = {need: {"made": result.made} for need, result in upstream.items()}
    tracked = {} if config.logger.wandb == "disabled" else _tracked(step, config, upstream)
    provenance.begin_attempt(step.partial, step.code, made, tracked)


def _tracked(step: Step, config: Config, upstream: Mapping[str, Result]) -> dict[str, Any]:
    """Return what Weights & Biases shows of a result: its label, the rows that use it, and its lineage."""
    inputs = [
        {"stage": need, "name": result.directory.name, "fingerprint": result.fingerprint, "made": result.made}
        for need, result in upstream.items()
    ]
    made = step.made({need: result.made for need, result in upstream.items()})
    result = {"stage": step.name, "name": step.directory.name, "fingerprint": step.fingerprint, "made": made}
    label = step.directory.name.removesuffix(f"-{step.fingerprint}")
    return {"label": label, "variants": sharing(step, config), "result": result | {"upstream": inputs}}


def _publish(step: Step, config: Config, upstream: Mapping[str, Result], seconds: float) -> Result:
    """Record how a result was made and move it to its place."""
    for result in upstream.values():
        if read(result.directory).get("made", "") != result.made:
            raise CtrlRecError(
                f"{result.directory}: another process rebuilt it while {step.name} was made from it; run the same "
                "command again"
            )
    made = step.made({need: result.made for need, result in upstream.items()})
    provenance.write(
        step.partial,
        command=SECRET.sub("...", shlex.join(["python", "-m", "ctrlrec", *_words()])),
        config=plain(config),
        seconds=seconds,
        processes=processes.count(),
        upstream={
            need: {"directory": str(result.directory), "fingerprint": result.fingerprint, "made": result.made}
            for need, result in upstream.items()
        },
        made=made,
    )
    record_files(step.partial)
    replaced = step.directory.with_name(step.directory.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if step.directory.exists():  # rebuilt: the old one stood until now
        step.directory.rename(replaced)
    step.partial.rename(step.directory)
    shutil.rmtree(replaced, ignore_errors=True)
    _drop_checkpoints(step.directory)
    return Result(step.directory, step.fingerprint, made, reused=False)


def _words() -> list[str]:
    """Return the words after ``python -m ctrlrec``; of a row of a sweep its own, whatever started its process."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return list(HydraConfig.get().overrides.task)
    return sys.argv[1:]


def _drop_checkpoints(directory: Path) -> None:
    """Delete checkpoints only after publishing, so that a killed run can resume."""
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
