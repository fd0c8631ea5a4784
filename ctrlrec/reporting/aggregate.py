"""Finished evaluations on disk to the rows of one table; several seeds of a row become one."""

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scipy.special import stdtrit

from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting.tables import Row
from ctrlrec.runtime.files import check_files
from ctrlrec.runtime.provenance import made_from

log = logging.getLogger(__name__)

_SPEED_ONLY = ("micro_batch_size", "batch_size", "engine", "checkpoint_every")  # the last: of earlier results
_UNRECORDED = {"constraint": {"name": "none"}}  # sections of results that are older than them
_FOLDER = ("dataset", "model", "budget")  # whose names make a folder of tables
OWN_BACKBONE = ("instructrec",)  # rows that their papers give a backbone other than the table's


@dataclass(frozen=True)
class Result:
    """One evaluation: ``metrics.json`` and the resolved configuration of ``provenance.json``."""

    directory: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    upstream: Mapping[str, Any]
    finished: float

    @property
    def name(self) -> str:
        """The table row it belongs to; each model behind an API has its own."""
        variant = self.config["variant"]
        api = self.config["api"]["model"] if variant["answers_with"] == "api" else ""
        return f"{variant['name']} {api}".strip()

    @property
    def seed(self) -> int:
        """Of the whole run."""
        return self.config["seed"]

    def input(self, stage: str) -> Path:
        """The directory of an upstream stage."""
        return made_from(self.directory, self.upstream)[stage]

    def belongs_with(self, config: Mapping[str, Any]) -> bool:
        """Whether everything that decides a row of this kind, but for its variant and seed, is as ``config`` says."""
        return self.unlike(config) is None

    def unlike(self, config: Mapping[str, Any]) -> str | None:
        """The first setting, of those that decide a row of this kind, that is not as ``config`` says; None without one.

        What a variant lists under ``variant.differs`` is its own.
        """
        variant = self.config["variant"]
        keys = ["dataset", "teacher", "model", "evaluation", "generation"]
        keys += ["instructions", "sl"] if variant["tasks"] else []
        keys += ["rl", "reward"] if variant["rl"] else []
        keys += ["constraint"] if variant["answers_with"] == "model" else []
        if self.name in OWN_BACKBONE and self.config["model"]["name"] != config["model"]["name"]:
            keys = ["dataset", "teacher", "evaluation"]
        if variant["answers_with"] == "model" and _server(self.config) != _server(config):
            return "the server that answers"
        if _candidates(self.config) != _candidates(config):
            return "instructions.candidate_count"
        exams = {_exams(self.config), _exams(config)} if "general" in self.metrics["settings"] else {None}
        if len(exams - {None}) > 1:
            return "general"
        own = {key for row in (self.config, config) for key in row["variant"].get("differs", ())}
        for section in keys:
            here, there = _deciding(self.config, section), _deciding(config, section)
            for key in dict.fromkeys([*here, *there]):
                if f"{section}.{key}" not in own and here.get(key) != there.get(key):
                    return f"{section}.{key}={here.get(key)}"
        return None


def _name(config: Mapping[str, Any], group: str) -> str | None:
    return config.get(group, {}).get("name")


def _candidates(config: Mapping[str, Any]) -> int | None:
    """How many candidates a question gives; None where it gives none."""
    return config["instructions"]["candidate_count"] if config["evaluation"].get("selection") else None


def _server(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Who answers for a model of one's own; None where it answers in the process."""
    return (config["api"]["url"], config["api"]["model"]) if config["generation"]["engine"] == "api" else None


def _exams(config: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """How general ability is examined; None where it is not."""
    general = config["general"]
    named = general["mmlu"] is not None or general["gsm8k"] is not None
    return (general["mmlu_shots"], general["gsm8k_shots"], general["limit"]) if named else None


def _deciding(config: Mapping[str, Any], section: str) -> dict[str, Any]:
    recorded = config.get(section, _UNRECORDED.get(section, {}))
    return {key: value for key, value in recorded.items() if key not in _SPEED_ONLY}


def read_results(directories: Iterable[Path]) -> list[Result]:
    """Read evaluations.

    Raises:
        CtrlRecError: where a directory does not hold a finished one as it was left.
    """
    results = []
    for directory in directories:
        files = directory / "metrics.json", directory / "provenance.json"
        check_files(directory)
        try:
            metrics, provenance = (json.loads(file.read_text(encoding="utf-8")) for file in files)
            finished = files[1].stat().st_mtime
            results.append(Result(directory, provenance["config"], metrics, provenance.get("upstream", {}), finished))
        except (OSError, ValueError, KeyError) as error:
            raise CtrlRecError(
                f"{directory}: expected a finished evaluation with metrics.json and provenance.json ({error!r})"
            ) from None
    return results


def comparable(results: Sequence[Result], config: Mapping[str, Any], current: Path) -> list[Result]:
    """The results that belong in one table with a run of ``config``.

    They share the settings of data, teacher, backbone and questions, and whatever of the training decides their row is
    as ``config`` says; a row with a backbone of its own shares those of data, teacher and questions. Of several with
    one row name and seed (another prompt suffix) ``current`` is taken, else the newest.
    """
    chosen: dict[tuple[str, int], Result] = {}
    for result in sorted(results, key=lambda result: (result.directory == current, result.finished)):
        unlike = result.unlike(config)
        if unlike is None:
            before = chosen.get((result.name, result.seed))
            chosen[result.name, result.seed] = result
            left_out, why = before, f"{result.directory.name} is of the same row"
        else:
            left_out, why = result, f"made with {unlike}"
        if left_out and all(_name(left_out.config, group) == _name(config, group) for group in _FOLDER):
            log.info("%-12s not shown: %s, seed %d (%s): %s", "tables", left_out.name, left_out.seed,
                     left_out.directory.name, why)  # fmt: skip
    return list(chosen.values())


def aggregate(results: Sequence[Result], confidence: float) -> list[Row]:
    """Rows of a table.

    A row of one seed keeps its intervals over users. A row of several is the mean over seeds; its metrics hold
    ``seeds``, and n remains the number of users. All seeds are asked the same users, so what a sample of users leaves
    open does not average out: to each side of the mean goes the root of two squares, the mean distance of the seeds'
    intervals over users, and that of Student's interval over the seeds. The interval is cut to 0..1.

    Args:
        results: at most one for a row name and seed.
        confidence: of the intervals over seeds.

    Raises:
        CtrlRecError: where two results have one row name and one seed.
    """
    rows: dict[str, dict[int, Result]] = {}
    for result in results:
        seeds = rows.setdefault(result.name, {})
        if seeds.setdefault(result.seed, result) is not result:
            raise CtrlRecError(
                f"row {result.name}, seed {result.seed}: both {seeds[result.seed].directory} and {result.directory} "
                "hold it; give one of them"
            )
    return [
        (name, _over_seeds(seeds, confidence) if len(seeds) > 1 else next(iter(seeds.values())).metrics)
        for name, seeds in rows.items()
    ]


def _over_seeds(results: Mapping[int, Result], confidence: float) -> dict[str, Any]:
    every = [result.metrics["settings"] for result in results.values()]
    quantile = float(stdtrit(len(every) - 1, (1 + confidence) / 2))
    settings: dict[str, dict[str, dict[str, float | int]]] = {}
    for setting, metrics in every[0].items():
        for metric in metrics:
            cells = [found[setting][metric] for found in every if metric in found.get(setting, {})]
            if len(cells) < len(every):
                continue  # a metric that some seed lacks has no mean over the seeds
            values = [cell["value"] for cell in cells]
            mean, over_seeds = fmean(values), quantile * stdev(values) / math.sqrt(len(values))
            below, above = (fmean(abs(cell[end] - cell["value"]) for cell in cells) for end in ("low", "high"))
            settings.setdefault(setting, {})[metric] = {
                "value": mean,
                "low": max(0.0, mean - math.hypot(below, over_seeds)),
                "high": min(1.0, mean + math.hypot(above, over_seeds)),
                "n": min(cell["n"] for cell in cells),
            }
    return {"settings": settings, "seeds": sorted(results)}
