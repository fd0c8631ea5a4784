"""Weights & Biases: runs, tables and lineage. A failure there never ends a run."""

import csv
import hashlib
import logging
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from ctrlrec.config.schema import LoggerConfig

log = logging.getLogger(__name__)

_INIT_SECONDS = 30  # to reach the server at the start of a run; the library's own 90 hold up every stage
_FINISH_SECONDS = 120  # to send the rest at its end; what is not sent stays on disk
_TAG, _NAME = 64, 128  # characters that W&B takes
VALIDATED, BEST = "validation/reward", "validation/best_reward"  # the second is what an agent's sweep optimises
_AGENT = ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RUN_ID")  # set by an agent; they decide a run's id
_MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}

_unreachable = False  # found out once in a process


def wandb_mode(configured: str) -> str:
    """Return ``logger.wandb`` with auto settled: online if a key is configured, offline otherwise."""
    if configured != "auto":
        return configured
    asked = os.environ.get("WANDB_MODE")
    if asked:
        if asked not in _MODES:
            log.warning("%-12s WANDB_MODE=%s: expected %s; runs are kept offline", "wandb", asked, ", ".join(_MODES))
        return _MODES.get(asked, "offline")
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        return "online" if "wandb" in Path("~/.netrc").expanduser().read_text(errors="ignore") else "offline"
    except (OSError, RuntimeError):  # no such file, or no home
        return "offline"


def shortened(text: str, most: int) -> str:
    """Return a text of at most ``most`` characters, the end of a longer one replaced by a digest of the whole."""
    return text if len(text) <= most else f"{text[: most - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


class Tracker(Logger):
    """A run of Weights & Biases that Lightning and the stages log to.

    A failure is one line in the log; from then on nothing is tracked.

    Args:
        run: of ``wandb.init``.
        best: validation reward of earlier attempts.
    """

    def __init__(self, run: Any, best: float = float("-inf")):
        super().__init__()
        self._run = run
        self._best = best
        # Lightning's steps are the x-axis of every metric.
        self._do(lambda run: run.define_metric("trainer/global_step"))
        self._do(lambda run: run.define_metric("*", step_metric="trainer/global_step", step_sync=True))

    @property
    def name(self) -> str:
        """Return the logger's name, as Lightning asks."""
        return "wandb"

    @property
    def version(self) -> str:
        """Return the logger's version, as Lightning asks."""
        return "0"

    def _do(self, action: Callable[[Any], object]) -> None:
        """Do something with the run; if that fails, log it once and stop tracking."""
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            log.warning("%-12s failed (%s): this run continues, with CSV files alone", "wandb", _reason(error))
            self._run = None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers at a step, and beside a validation reward the best one so far."""
        logged = dict(metrics) | ({} if step is None else {"trainer/global_step": step})
        if VALIDATED in metrics:
            self._best = max(self._best, metrics[VALIDATED])
            logged[BEST] = self._best
        self._do(lambda run: run.log(logged))

    def log_hyperparams(self, params: Any, *arguments: Any, **keywords: Any) -> None:
        """Log nothing: the run has the whole configuration from its start."""

    def summarise(self, values: Mapping[str, float]) -> None:
        """Set the run's final numbers."""
        self._do(lambda run: run.summary.update(dict(values)))

    def show(
        self,
        tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]],
        images: Mapping[str, Path] | None = None,
        page: Path | None = None,
    ) -> None:
        """Log tables, each as its column names and rows, images, each as its file, and a page of HTML."""

        def send(run: Any) -> None:
            import wandb

            shown: dict[str, Any] = {
                name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])
                for name, (columns, rows) in tables.items()
            }
            shown |= {name: wandb.Image(str(path)) for name, path in (images or {}).items()}
            run.log(shown | ({page.stem: wandb.Html(str(page), inject=False)} if page else {}))

        self._do(send)

    def result(self, made: Mapping[str, Any]) -> None:
        """Log a result and what it was made from as artifacts that refer to it; nothing is uploaded.

        A run that is offline cannot declare what it used; the metadata of its result holds that.

        Args:
            made: ``stage``, ``name`` and ``made`` of the result, and ``upstream``, a list of the same.
        """

        def send(run: Any) -> None:
            if not run.offline:
                for used in made["upstream"]:
                    run.use_artifact(_artifact(used))
            run.log_artifact(_artifact(made))

        self._do(send)

    def finalize(self, status: str) -> None:
        """Do nothing when a trainer ends: the stage closes its run with :meth:`close`."""

    def close(self, success: bool) -> None:
        """Close the run."""
        self._do(lambda run: run.finish(exit_code=0 if success else 1))
        self._run = None


def _artifact(made: Mapping[str, Any]) -> Any:
    """Return an artifact that refers to a result by stage, name and the code that made it."""
    import wandb

    name = re.sub(r"[^A-Za-z0-9_.-]", "-", made["name"])
    artifact = wandb.Artifact(shortened(name, _NAME), type=made["stage"], metadata=dict(made))
    artifact.add_reference(f"ctrlrec://{made['stage']}/{name}/{made['made']}", name="result", checksum=False)
    return artifact


def start(
    config: LoggerConfig,
    directory: Path,
    *,
    name: str,
    job_type: str,
    group: str,
    tags: Sequence[str],
    settings: Mapping[str, Any],
    run_id: str | None = None,
    asked: bool = False,
) -> Tracker | None:
    """Start a run: online, offline if the server cannot be reached, or not at all if that fails too.

    Args:
        config: mode, project and group.
        directory: the run's files go to ``wandb`` in it.
        name: of the run.
        job_type: of the run.
        group: unless ``logger.group`` names one.
        tags: of the run. Names and tags that are too long for W&B are shortened there.
        settings: the run's configuration.
        run_id: of a run to be updated; None for a new one.
        asked: whether this is the run that an agent of W&B waits for, if one started this process.

    Returns:
        The run, or None without one.
    """
    global _unreachable
    mode = wandb_mode(config.wandb)
    if mode == "disabled":
        return None
    os.environ.setdefault("WANDB_SILENT", "true")
    for attempt in ("online", "offline") if mode == "online" and not _unreachable else ("offline",):
        try:
            import wandb

            with _for_the_agent(asked) as agent:
                run = wandb.init(
                    # An agent decides these three.
                    project=None if agent else config.project,
                    entity=None if agent else config.entity,
                    id=None if agent else run_id or secrets.token_hex(4),  # WANDB_RUN_ID would make one run of all
                    dir=str(directory),
                    mode=attempt,  # type: ignore[arg-type]
                    group=shortened(config.group or group, _NAME),
                    job_type=job_type,
                    name=shortened(name, _NAME),
                    tags=list(dict.fromkeys(shortened(tag, _TAG) for tag in tags)),
                    config=dict(settings),
                    resume="allow",
                    reinit="finish_previous",
                    settings=wandb.Settings(init_timeout=_INIT_SECONDS, finish_timeout=_FINISH_SECONDS, silent=True),
                )
            return Tracker(run, _validated(directory))
        except Exception as error:
            if attempt == "online":
                _unreachable = True
                log.warning("%-12s cannot be reached (%s): runs are kept offline", "wandb", _reason(error))
            else:
                log.warning("%-12s failed (%s): this run continues, with CSV files alone", "wandb", _reason(error))
    return None


def _validated(directory: Path) -> float:
    """Return the best validation reward that earlier attempts at a stage logged; minus infinity without one.

    Args:
        directory: of the stage, with ``logs/attempt_N/metrics.csv``.
    """
    found = [float("-inf")]
    for path in directory.glob("logs/attempt_*/metrics.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                with suppress(ValueError):  # a line that a kill cut off
                    found.append(float(row.get(VALIDATED) or "-inf"))
    return max(found)


@contextmanager
def _for_the_agent(asked: bool) -> Iterator[bool]:
    """Yield whether a run is the one that an agent of W&B waits for; hide the agent's variables from every other run.

    An agent sets one id for the process. W&B gives it to each run that the process starts, so that all stages would be
    written into one run.

    Args:
        asked: whether this is the run of the stage asked for.
    """
    if "WANDB_SWEEP_ID" not in os.environ:
        yield False
        return
    import wandb

    hidden = {} if asked else {name: os.environ.pop(name) for name in _AGENT if name in os.environ}
    wandb.teardown()  # it reads its variables once, until it is torn down
    try:
        yield asked
    finally:
        os.environ.update(hidden)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2]) or type(error).__name__
