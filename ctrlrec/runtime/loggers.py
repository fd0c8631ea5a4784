"""Loggers of a stage: CSV always, Weights & Biases as configured."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.utilities import rank_zero_only

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config, StageName
from ctrlrec.config.seeds import seed_of_rl, seed_of_row
from ctrlrec.config.split import data_label
from ctrlrec.runtime import processes, provenance, tracking

_ROWS = ("evaluate",)  # stages that belong to one row of the tables alone


@contextmanager
def loggers(config: Config, job_type: str, directory: Path) -> Iterator[list[Logger]]:
    """Yield the loggers of one stage, closed however the stage ends; none in processes other than the first.

    A row's evaluation is named after the row. A stage that rows share is named by its own label, and tagged with every
    row of the sweep that uses it.

    Args:
        config: its ``logger`` section decides.
        job_type: the stage's name.
        directory: metrics go to ``logs/attempt_N/metrics.csv`` in it, N counting the starts of a resumed stage.
    """
    rank_zero_only.rank = processes.rank()  # type: ignore[attr-defined]  # Lightning's guess reads any stray RANK
    if processes.rank():
        yield []
        return
    attempts = len(list((directory / "logs").glob("attempt_*")))
    made: list[Logger] = [CSVLogger(directory, name="logs", version=f"attempt_{attempts}", flush_logs_every_n_steps=1)]
    told = (provenance.attempts(directory) or [{}])[-1].get("tracked", {})
    tracker = _tracker(config, job_type, directory, told)
    if tracker is not None:
        made.append(tracker)
    success = False
    try:
        yield made
        success = True
        if tracker is not None and told:
            tracker.result(told["result"])
    finally:
        if tracker is not None:
            tracker.close(success)
        made[0].finalize("success" if success else "failed")


def _tracker(config: Config, job_type: str, directory: Path, told: Mapping[str, Any]) -> tracking.Tracker | None:
    """Start the run of a stage.

    Args:
        config: of the row that makes it.
        job_type: the stage's name.
        directory: of the stage.
        told: ``label``, ``variants`` and ``result`` of :func:`ctrlrec.pipeline.run.tracked`; empty outside a run.
    """
    variants = told.get("variants", [config.variant.name])
    settings = plain(config) | {"variants": variants} | {key: told[key] for key in ("result",) if key in told}
    label = told.get("label", config.variant.name)
    if job_type in _ROWS:
        name = label.removeprefix(f"{data_label(config.dataset)}-{config.model.name}-")
    else:
        name = f"{job_type}-{label}"
        del settings["variant"]  # of the row that happened to come first
    return tracking.start(
        config.logger,
        directory,
        name=f"{name}-{_seeds(config, job_type)}",
        job_type=job_type,
        group=f"{data_label(config.dataset)}-{config.model.name}-{config.budget.name}",
        tags=[data_label(config.dataset), config.model.name, *variants],
        settings=settings,
        asked=job_type == (config.stage.name if config.stage.name != StageName.all else "evaluate"),
    )


def _seeds(config: Config, job_type: str) -> str:
    """Return the seed of a stage in words, and that of RL if RL has another one."""
    of_rl = {"rl": seed_of_rl, "evaluate": seed_of_row}.get(job_type)
    own = of_rl(config) if of_rl else config.seed
    return f"seed{config.seed}" + (f"-rl{own}" if own != config.seed else "")


def log_answers(made: Sequence[Logger], rows: Sequence[dict[str, Any]], columns: Sequence[str], most: int = 50) -> None:
    """Log a W&B table of some answers, evenly spread over the rows."""
    sampled = rows[:: max(1, len(rows) // most)]
    data = [[json.dumps(row[name], ensure_ascii=False) for name in columns] for row in sampled]
    for logger in made:
        if isinstance(logger, tracking.Tracker):
            logger.show({"answers": (columns, data)})


def log_summary(made: Sequence[Logger], metrics: dict[str, Any]) -> None:
    """Log every metric of every setting, into the W&B summary and the CSV file."""
    for logger in made:
        for setting, cells in metrics["settings"].items():
            values = {f"{setting}/{metric}": cell["value"] for metric, cell in cells.items()}
            if isinstance(logger, tracking.Tracker):
                logger.summarise(values)
            else:
                logger.log_metrics(values)
