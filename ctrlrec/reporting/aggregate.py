"""Finished evaluations on disk to the rows of one table; several seeds of a row become one."""

import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrlrec.config.seeds import seed_of_row
from ctrlrec.config.split import deciding
from ctrlrec.config.unrecorded import completed
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.intervals import mean_of_seeds, with_spread
from ctrlrec.evaluation.metrics import limits_of
from ctrlrec.reporting.rows import Row, note_of
from ctrlrec.runtime.files import check_files
from ctrlrec.runtime.results import made_from

log = logging.getLogger(__name__)

# Without a part in what rows have to share: speed (the last of earlier results), what their names tell, and seeds.
_NOT_SHARED = (
    *("micro_batch_size", "micro_tokens", "batch_size", "memory_share"),
    *("engine", "checkpoint_every", "constrained", "seed"),
)
_FOLDER = ("dataset", "model", "budget")  # whose names make a folder of tables


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
        """Return the table row it belongs to; each constraint, and each model behind an API, has its own."""
        variant = self.config["variant"]
        api = self.config["api"]["model"] if variant["answers_with"] == "api" else ""
        return f"{variant['name']}{_under(self.config)} {api}".strip()

    @property
    def row(self) -> Row:
        """Return it as a row of a table."""
        recorded = self.config["variant"].get("table")
        return Row(self.name, self.metrics["settings"], (self.seed,), recorded)

    @property
    def seed(self) -> int:
        """Return the seed that tells apart the rows of its name (:func:`seed_of_row`)."""
        return seed_of_row(self.config)

    @property
    def run_seed(self) -> int:
        """Return the seed of the whole run, from which only RL may differ."""
        return self.config["seed"]

    @property
    def own_rl_seed(self) -> bool:
        """Return whether its RL has another seed than the run."""
        return self.seed != self.run_seed

    def input(self, stage: str) -> Path:
        """Return the directory of an upstream stage."""
        return made_from(self.directory, self.upstream)[stage]

    def belongs_with(self, config: Mapping[str, Any]) -> bool:
        """Return whether all that decides a row of this kind, except its variant and seed, is as ``config`` says."""
        return self.unlike(config) is None

    def unlike(self, config: Mapping[str, Any]) -> str | None:
        """Return the first setting that decides a row of this kind and is not as ``config`` says; None without one.

        What a variant lists under ``variant.differs`` is its own: keys, and sections with all keys in them. A table
        holds several seeds of whole runs, or several of RL with one seed of all else.
        """
        if self.run_seed != config["seed"] and (self.own_rl_seed or seed_of_row(config) != config["seed"]):
            return f"rl.seed={self.seed}" if self.own_rl_seed else f"seed={self.run_seed}"
        variant = self.config["variant"]
        keys = ["dataset", "teacher", "model", "evaluation", "generation"]
        keys += ["instructions", "sl"] if variant["tasks"] else []
        keys += ["rl", "reward"] if variant["rl"] else []
        if self.row.place.own_backbone and self.config["model"]["name"] != config["model"]["name"]:
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
                if here.get(key) != there.get(key) and not _named(f"{section}.{key}", own):
                    return f"{section}.{key}={here.get(key, self.config[section].get(key))}"
        return None


def _named(key: str, listed: Collection[str]) -> bool:
    """Return whether a dotted key is listed, itself or with a section that it is in."""
    return any(key == name or key.startswith(f"{name}.") for name in listed)


def answers_under(config: Mapping[str, Any]) -> str:
    """Return the constraint that a row's answers obey; empty without one."""
    name = config.get("constraint", {}).get("name", "none")
    constrained = config["variant"]["answers_with"] == "model" and config["evaluation"].get("constrained", True)
    return name if constrained and name != "none" else ""


def _under(config: Mapping[str, Any]) -> str:
    """Return the part of a row's name that tells its constraint, such as ``+fresh``, and the training under it."""
    variant, name = config["variant"], config.get("constraint", {}).get("name", "none")
    if name == "none" or variant["answers_with"] != "model":
        return ""
    answers = answers_under(config)
    stages = {"sl": variant["tasks"], "rl": variant["rl"]}
    trained = [stage for stage, made in stages.items() if made and config[stage].get("constrained")]
    return (f"+{name}" if answers else "") + "".join(
        f"+{stage}" if answers else f"+{name}-{stage}" for stage in trained
    )


def _name(config: Mapping[str, Any], group: str) -> str | None:
    return config.get(group, {}).get("name")


def _candidates(config: Mapping[str, Any]) -> int | None:
    """Return how many candidates a question gives; None if it gives none."""
    return config["instructions"]["candidate_count"] if config["evaluation"].get("selection") else None


def _server(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return who answers for a model of one's own; None if it answers in the process."""
    return (config["api"]["url"], config["api"]["model"]) if config["generation"]["engine"] == "api" else None


def _exams(config: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return how general ability is examined; None if it is not."""
    general = config["general"]
    named = general["mmlu"] is not None or general["gsm8k"] is not None
    return (general["mmlu_shots"], general["gsm8k_shots"], general["limit"]) if named else None


def _deciding(config: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return the settings of a section that decide numbers, those of an inner section by dotted key."""
    found: dict[str, Any] = {}
    settings = completed(section, config.get(section, {}))
    for key, value in (deciding(settings) if section == "dataset" else settings).items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{inner}": of_inner for inner, of_inner in value.items()}
        elif key not in _NOT_SHARED:
            found[key] = value
    return found


def read_results(directories: Iterable[Path]) -> list[Result]:
    """Read evaluations.

    Raises:
        CtrlRecError: if a directory does not hold a finished one as it was left.
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
    """Return the results that belong in one table with a run of ``config``.

    They share the settings of data, teacher, backbone and questions, and whatever of the training decides their row is
    as ``config`` says; a row with a backbone of its own shares those of data, teacher and questions. With ``rl.seed``
    they are of one ``seed``, without it none has a seed of RL alone. Of several with one row name and seed (another
    prompt suffix) ``current`` is taken, else the newest.
    """
    chosen: dict[tuple[str, int], Result] = {}
    for result in sorted(results, key=lambda result: (result.directory == current, result.finished)):
        unlike = _of_other_seeds(result, config) or result.unlike(config)
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


def _of_other_seeds(result: Result, config: Mapping[str, Any]) -> str | None:
    """Return the seed that keeps a row out of a table over seeds of RL, or of whole runs; None without one."""
    if config["rl"].get("seed") is None:
        return f"rl.seed={result.seed}" if result.own_rl_seed else None
    return f"seed={result.run_seed}" if result.run_seed != config["seed"] else None


def aggregate(results: Sequence[Result], confidence: float) -> list[Row]:
    """Return rows of a table.

    A row of one seed keeps its intervals over users. A row of several is the mean over seeds; n remains the number of
    users, and the interval holds what users and what seeds leave open (:func:`mean_of_seeds`, :func:`with_spread`).

    Args:
        results: at most one for a row name and seed.
        confidence: of the intervals over seeds.

    Raises:
        CtrlRecError: if two results have one row name and one seed.
    """
    rows: dict[str, dict[int, Result]] = {}
    for result in results:
        seeds = rows.setdefault(result.name, {})
        if seeds.setdefault(result.seed, result) is not result:
            raise CtrlRecError(
                f"row {result.name}, seed {result.seed}: both {seeds[result.seed].directory} and {result.directory} "
                "hold it; give one of them"
            )
    return [_over_seeds(list(seeds.values()), confidence) for seeds in rows.values()]


def _over_seeds(results: Sequence[Result], confidence: float) -> Row:
    first, *others = (result.row for result in results)
    if not others:
        return first
    settings: dict[str, dict[str, Mapping[str, Any]]] = {}
    for setting, metrics in first.settings.items():
        for name, cell in metrics.items():
            further = [found for row in others if (found := row.cell(setting, name))]
            if len(further) < len(others):
                continue  # a metric that some seed lacks has no mean over the seeds
            cells: list[Any] = [cell, *further]
            values = [cell["value"] for cell in cells]
            mean = with_spread(mean_of_seeds(cells), values, confidence, limits_of(setting, name))
            settings.setdefault(setting, {})[name] = mean | note_of(cells)
    seeds, of_rl = tuple(sorted(result.seed for result in results)), any(result.own_rl_seed for result in results)
    return Row(first.name, settings, seeds, first.recorded, of_rl)
