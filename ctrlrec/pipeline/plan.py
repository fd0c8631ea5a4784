"""What a run will make or reuse: one step a stage, known before anything is made."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ctrlrec.config.engines import ENGINES, answering_engine, sampling_engine
from ctrlrec.config.schema import Config, StageName
from ctrlrec.pipeline import data, evaluate, instructions, rl, sl, teacher
from ctrlrec.pipeline.settings import constrained
from ctrlrec.pipeline.stage import Stage
from ctrlrec.runtime import code
from ctrlrec.runtime.results import made_from, read

STAGES: Mapping[str, Stage] = {
    module.STAGE.name: module.STAGE for module in (data, teacher, instructions, sl, rl, evaluate)
}


@dataclass(frozen=True)
class Step:
    """A stage of one run.

    Attributes:
        name: of the stage.
        directory: of its result.
        fingerprint: of what determines the result.
        determined_by: settings, and the fingerprints of what the result is made from.
        needs: stages that it is made from.
        code: what the result rests on, of :func:`ctrlrec.runtime.code.digests`.
    """

    name: str
    directory: Path
    fingerprint: str
    determined_by: dict[str, Any]
    needs: tuple[str, ...]
    code: code.Digests

    @property
    def partial(self) -> Path:
        """Where the result is made."""
        return self.directory.with_name(self.directory.name + ".partial")

    def made(self, upstream: Mapping[str, str]) -> str:
        """Return what tells a result apart from one of the same settings that other code made.

        Args:
            upstream: the same of what it is made from, by stage.
        """
        meaning = {room: found["code"] for room, found in self.code.items()}
        return _digest([self.fingerprint, meaning, dict(upstream)])

    def outdated(self, record: Mapping[str, Any], upstream: Mapping[str, str]) -> str:
        """Return why a finished or begun result is not what this code would make; empty if it is.

        Args:
            record: of the result, its ``provenance.json`` or one of its attempts.
            upstream: :meth:`made` of what it would be made from now.
        """
        return _outdated(record, self.code, upstream)


def requested(config: Config) -> list[str]:
    """Return the stages that ``stage=`` asks for by name; what they need comes with them."""
    if config.stage.name != StageName.all:
        return [str(config.stage.name.value)]
    return ["instructions", "evaluate"] if config.variant.tasks else ["evaluate"]


def plan(config: Config) -> dict[str, Step]:
    """Return the steps of a run in the order in which they are taken; nothing is made."""
    steps: dict[str, Step] = {}

    def add(names: Iterable[str]) -> None:
        for name in names:
            if name in steps:
                continue
            stage = STAGES[name]
            needs = stage.needs(config)
            add(needs)
            determined_by = {
                "stage": name,
                "settings": stage.settings(config),
                "upstream": {need: steps[need].fingerprint for need in needs},
            }
            fingerprint = _digest(determined_by)
            directory = Path(config.output) / name / f"{stage.label(config)}-{fingerprint}"
            found = code.digests(f"pipeline.{name}", _choices(config, name))
            steps[name] = Step(name, directory, fingerprint, determined_by, needs, found)

    add(requested(config))
    return steps


def planned(config: Config) -> dict[str, str]:
    """Return the fingerprint of every result that a run would make or reuse, by stage; nothing is made."""
    return {name: step.fingerprint for name, step in plan(config).items()}


def outdated(directory: Path) -> str:
    """Return why a finished result is not what this code would make, by its own record; empty if it is.

    Args:
        directory: of the result. What it was made from lies beside it, or is gone and then not looked at.
    """
    record = read(directory)
    config = OmegaConf.create(record.get("config", {}))
    stage = directory.parent.name
    found = code.digests(f"pipeline.{stage}", _choices(config, stage))  # type: ignore[arg-type]
    beside = made_from(directory, record.get("upstream", {}))
    upstream = {need: place for need, place in beside.items() if place.is_dir()}
    why = _outdated(record, found, {need: read(place).get("made", "") for need, place in upstream.items()})
    return why or next(filter(None, map(outdated, upstream.values())), "")


def _choices(config: Config, stage: str) -> dict[str, list[str]]:
    """Return the modules that a stage of a run chooses, by folder.

    A constraint counts only if it is in force, and of the engines only the one that the stage asks.
    """
    asked = {"rl": sampling_engine, "evaluate": answering_engine}.get(stage)
    # Without a record there is no engine to ask for.
    recorded = OmegaConf.select(config, "generation.engine") is not None  # type: ignore[arg-type]
    engine = asked(config) if asked is not None and recorded else None
    found = code.choices(config) | {ENGINES.package: [] if engine is None else [engine]}
    return found if constrained(config, stage) else found | {"generation.constraints": ["none"]}


def _outdated(record: Mapping[str, Any], now: code.Digests, upstream: Mapping[str, str]) -> str:
    attempts = [record, *record.get("earlier_attempts", ())]
    rooms = sorted({room for attempt in attempts for room in code.changed(attempt.get("code") or {}, now)})
    if rooms:
        return f"code in {', '.join(rooms)} changed since it was made"
    other = [
        stage
        for stage, made in upstream.items()
        if any(attempt.get("upstream", {}).get(stage, {}).get("made") != made for attempt in attempts)
    ]
    return f"{' and '.join(other)} changed since it was made" if other else ""


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:12]
