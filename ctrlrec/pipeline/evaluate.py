"""The stage ``evaluate``: answers of all settings and their metrics."""

import json
import logging
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlrec.config.engines import answering_engine
from ctrlrec.config.schema import Config
from ctrlrec.config.split import data_label
from ctrlrec.lm.checks import check_backbone
from ctrlrec.pipeline.answering import beam_answers, engine_answers, longest, shared
from ctrlrec.pipeline.inputs import cache_folder
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.pipeline.settings import constrained, constraint_label, model_settings, without
from ctrlrec.pipeline.stage import Inputs, Stage
from ctrlrec.runtime import processes, results
from ctrlrec.runtime.files import read_jsonl, write_jsonl, write_text
from ctrlrec.runtime.hardware import precision, settled

if TYPE_CHECKING:
    from ctrlrec.evaluation.answering import Answerer
    from ctrlrec.evaluation.matching import TitleMatcher
    from ctrlrec.generation.constraints.base import Constraint
    from ctrlrec.generation.engines import Engine
    from ctrlrec.instructions.builder import InstructionBuilder
    from ctrlrec.lm.chat_format import ChatFormat

log = logging.getLogger(__name__)


def run(config: Config, inputs: Inputs, directory: Path) -> None:
    """Write answers of all settings and their metrics, and general ability if it is asked for.

    Every process that takes part answers its share of each setting's questions; process 0 does the rest.
    """
    from ctrlrec.evaluation import general
    from ctrlrec.evaluation.answering import check_demands, teacher_answers
    from ctrlrec.evaluation.intervals import SHARE, summarise
    from ctrlrec.evaluation.matching import TitleMatcher
    from ctrlrec.evaluation.scoring import score
    from ctrlrec.generation.constraints import make_constraint
    from ctrlrec.generation.engines import ENGINES
    from ctrlrec.runtime.loggers import log_answers, log_summary, loggers

    served, settings = answering_engine(config), config.evaluation
    with processes.together():
        builder, chat_format = load_builder(config, inputs)
        constraint, exams = None, []
        if constrained(config, "evaluate"):
            constraint = make_constraint(config.constraint, builder.catalogue, chat_format)
        if processes.rank() == 0:
            if constraint is not None:
                check_demands(constraint, config, builder)  # before anything is answered
            exams = general.exams(config.general) if general.asked(config) else []
        model: Any = None
        if (served is not None and ENGINES[served].reads_model) or exams:
            model = _whole_model(config, inputs, chat_format)
        matcher = TitleMatcher(builder.catalogue.titles, settings.match_max_edits)
    with loggers(config, "evaluate", directory) as made, ExitStack() as stack:
        engine = None
        if served is None:
            answerer = teacher_answers(builder)
        elif config.variant.beam_search:
            answerer = beam_answers(config, model, chat_format, constraint)
        else:
            engine = stack.enter_context(_engine(config, inputs, chat_format, model, constraint))
            answerer = engine_answers(config, engine, constraint)
        reported = engine is not None and engine.reports
        kept = directory / "answered"  # setting by setting, should the run be killed in a later one
        processes.once(lambda: kept.mkdir(exist_ok=True))
        rows: list[dict[str, Any]] = []
        for setting in settings.settings:
            path = kept / f"{setting}.jsonl"
            # A server's answers are kept elsewhere, and its report counts them.
            rows += _answers(setting, path, reported, config, builder, shared(answerer), matcher)
        report = engine.report() if engine is not None and reported else None
        stack.close()  # the memory of an engine is for the exams now

        def conclude() -> None:
            write_jsonl(directory / "predictions.jsonl", rows)
            if report is not None:
                write_text(directory / "api.json", json.dumps(report, indent=2))
                log.info("%-12s %s", "api", ", ".join(f"{name} {value}" for name, value in report.items()))
            resampled = (settings.bootstrap_resamples, settings.confidence, config.seed)
            metrics = score(rows, builder.catalogue, *resampled)
            if exams:
                limit, size = config.general.limit, config.general.batch_size
                right = general.general_scores(
                    model, chat_format.tokenizer, exams, limit, size, str(model.device), kept
                )
                shares = dict.fromkeys(right, SHARE)
                parts = [summarise({name: each}, *resampled, shares) for name, each in right.items()]
                metrics["settings"]["general"] = {name: cell for part in parts for name, cell in part.items()}
            else:
                log.info("%-12s %s", "general", general.unasked_because(config))
            write_text(directory / "metrics.json", json.dumps(metrics, indent=2))
            log_summary(made, metrics)
            log_answers(made, rows, ("setting", "user", "category", "item_count", "prompt", "response"))

        processes.once(conclude)
    processes.once(lambda: shutil.rmtree(kept))


def _answers(
    setting: str,
    path: Path,
    again: bool,
    config: Config,
    builder: "InstructionBuilder",
    answerer: "Answerer",
    matcher: "TitleMatcher",
) -> list[dict[str, Any]]:
    """Answer the questions of a setting unless an earlier attempt did.

    Args:
        setting: its name.
        path: where its lines are kept until the evaluation ends.
        again: whether to answer even if they are there.
        config: of the row.
        builder: gives the questions.
        answerer: turns instructions into answer texts; every process calls it.
        matcher: turns written titles into items.

    Returns:
        The lines of the setting in process 0; none in the others.
    """
    from ctrlrec.evaluation.answering import answered, asked_of, lines, warn_of_useless

    if processes.once(lambda: again or not path.exists()):
        examples = asked_of(setting, config, builder)
        texts = answered(examples, answerer)
        processes.once(lambda: write_jsonl(path, lines(setting, examples, texts, config, builder, matcher)))
    rows: list[dict[str, Any]] = []
    with processes.together():
        if processes.rank() == 0:
            rows = read_jsonl(path)
            warn_of_useless(rows, setting)
    return rows


def _shared(config: Config) -> bool:
    """Return whether every process answers a share: not if the teacher or a server answers, nor an engine that counts.

    Those are asked by process 0 alone: the teacher is done in seconds, and a server's limits and report are for all.
    """
    from ctrlrec.generation.engines import ENGINES

    served = answering_engine(config)
    return served is not None and ENGINES[served].reads_model and not ENGINES[served].reports


def _check(config: Config) -> None:
    """Refuse what would stop the evaluation after everything was trained.

    Raises:
        CtrlRecError: for a backbone that cannot be loaded, an extra that is not installed, a server without its key, or
            questions of general ability that cannot be read.
    """
    from ctrlrec.evaluation import general
    from ctrlrec.generation.engines import ENGINES

    if config.variant.answers_with == "model":
        check_backbone(config)
    if (engine := answering_engine(config)) is not None:
        ENGINES[engine].check(config, cache_folder(config))
    if general.asked(config):
        general.exams(config.general)


def _answering_stages(config: Config) -> tuple[str, ...]:
    if config.variant.rl:
        return ("data", "teacher", "sl", "rl")
    return ("data", "teacher", "sl") if config.variant.tasks else ("data", "teacher")


def _candidates(config: Config) -> dict[str, Any]:
    """Return how many candidates a question gives; nothing if it gives none."""
    return {"candidates": config.instructions.candidate_count} if config.evaluation.selection else {}


def _server(config: Config) -> dict[str, Any]:
    """Return the server's URL and model if answers come from a server."""
    return {"api": [config.api.url, config.api.model]} if answering_engine(config) == "api" else {}


def _added_metrics() -> dict[str, Any]:
    """Return the metrics that plug-ins add, which results made without them lack."""
    from ctrlrec.evaluation.metrics import CHOICES

    added = sorted(CHOICES.added())
    return {"metrics": added} if added else {}


def _general(config: Config) -> dict[str, Any]:
    """Ask the questions of general ability; return nothing if there are none."""
    from ctrlrec.evaluation.general import asked, source_digest

    if not asked(config):
        return {}
    settings = without(config.general, "name", "batch_size")
    local = {exam: "local" for exam in ("mmlu", "gsm8k") if settings[exam] not in (None, "hub")}
    return {"general": settings | local, "general_source": source_digest(config.general)}


def _engine(
    config: Config, inputs: Inputs, chat_format: "ChatFormat", model: Any, constraint: "Constraint | None"
) -> "Engine":
    """Return the engine that answers."""
    from ctrlrec.generation.engines import Setup, make_engine

    folder = cache_folder(config) / "answers"
    stop: list[str] = []
    if config.variant.answers_with == "model":
        stop = [str(chat_format.tokenizer.decode([end])) for end in sorted(chat_format.ends)]
        # One address and one name may serve every model of one's own in turn. The last result that made it tells them
        # apart; of an untrained one that is the data's, whose tokenizer is the backbone's.
        result = inputs.get("rl") or inputs.get("sl") or inputs["data"]
        folder /= "-".join([result.name, *filter(None, [results.read(result).get("made")])])
    settings = config.generation
    setup = Setup(
        chat_format, longest(config, constraint), model, settings.batch_size, config.seed, settings.memory_share,
        config.api, folder, stop,
    )  # fmt: skip
    return make_engine(str(answering_engine(config)), setup)


def _whole_model(config: Config, inputs: Inputs, chat_format: "ChatFormat") -> Any:
    from ctrlrec.evaluation.general import asked
    from ctrlrec.generation.engines import ENGINES
    from ctrlrec.lm.policy import load_policy
    from ctrlrec.runtime.hardware import device

    stages = inputs.get("sl"), inputs.get("rl")
    model = load_policy(
        settled(config), cache_folder(config), chat_format.tokenizer, config.seed, *stages, items=chat_format.items
    )
    # Another engine reads it from files, and would have the device for itself.
    if asked(config) or ENGINES[str(answering_engine(config))].local:
        model = model.to(device(config.trainer))  # type: ignore[arg-type,assignment]
    return model.eval()


STAGE = Stage(
    "evaluate",
    _answering_stages,
    lambda c: (
        {
            "evaluation": without(c.evaluation, "constrained"),
            "model": model_settings(c),
            "variant": without(c.variant, "description", "differs", "table"),
            "generation": without(c.generation, "batch_size", "memory_share"),
            "seed": c.seed,
            "precision": precision(c.trainer),
        }
        | _candidates(c)
        | constrained(c, "evaluate")
        | _server(c)
        | _general(c)
        | _added_metrics()
    ),
    lambda c: f"{data_label(c.dataset)}-{c.model.name}-{c.variant.name}" + constraint_label(c, "evaluate"),
    run,
    "lower generation.batch_size",
    shared=_shared,
    check=_check,
)
