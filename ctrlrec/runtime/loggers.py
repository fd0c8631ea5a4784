"""Loggers: CSV always, Weights & Biases as configured."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config
from ctrlrec.runtime import processes


def wandb_mode(configured: str) -> str:
    """``logger.wandb`` with auto settled: online where a key is configured, offline otherwise."""
    if configured != "auto":
        return configured
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    netrc = Path.home() / ".netrc"
    return "online" if netrc.is_file() and "wandb" in netrc.read_text(errors="ignore") else "offline"


@contextmanager
def loggers(config: Config, job_type: str, directory: Path) -> Iterator[list[Logger]]:
    """The loggers of one stage, closed however the stage ends; none in processes other than the first.

    Args:
        config: its ``logger`` section decides; dataset, model and variant become tags.
        job_type: the stage's name.
        directory: metrics go to ``logs/attempt_N/metrics.csv`` in it, N counting the starts of a resumed stage.
    """
    if processes.rank():
        yield []
        return
    attempts = len(list((directory / "logs").glob("attempt_*")))
    made: list[Logger] = [CSVLogger(directory, name="logs", version=f"attempt_{attempts}", flush_logs_every_n_steps=1)]
    mode = wandb_mode(config.logger.wandb)
    if mode != "disabled":
        os.environ.setdefault("WANDB_SILENT", "true")
        made.append(
            WandbLogger(
                project=config.logger.project,
                entity=config.logger.entity,
                save_dir=directory,
                offline=mode == "offline",
                group=config.logger.group or f"{config.dataset.name}-{config.model.name}-{config.budget.name}",
                job_type=job_type,
                name=f"{job_type}-{config.variant.name}-seed{config.seed}",
                tags=[config.dataset.name, config.model.name, config.variant.name],
                config=plain(config),
            )
        )
    status = "failed"
    try:
        yield made
        status = "success"
    finally:
        for logger in made:
            logger.finalize(status)
        if mode != "disabled":
            import wandb

            wandb.finish(exit_code=0 if status == "success" else 1)


def log_answers(made: Sequence[Logger], rows: Sequence[dict[str, Any]], columns: Sequence[str], most: int = 50) -> None:
    """A W&B table of some answers, evenly spread over the rows."""
    sampled = rows[:: max(1, len(rows) // most)]
    for logger in made:
        if isinstance(logger, WandbLogger):
            data = [[json.dumps(row[name], ensure_ascii=False) for name in columns] for row in sampled]
            logger.log_text("answers", columns=list(columns), data=data)


def log_summary(made: Sequence[Logger], metrics: dict[str, Any]) -> None:
    """Every metric of every setting, into the W&B summary and the CSV file."""
    for logger in made:
        if isinstance(logger, WandbLogger):
            for setting, values in metrics["settings"].items():
                for metric, cell in values.items():
                    logger.experiment.summary[f"{setting}/{metric}"] = cell["value"]
        else:
            for setting, values in metrics["settings"].items():
                logger.log_metrics({f"{setting}/{metric}": cell["value"] for metric, cell in values.items()})
