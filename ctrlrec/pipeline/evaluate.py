"""The stage ``evaluate``: answers of all settings and their metrics."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlrec.config.schema import Config
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.checks import check_backbone
from ctrlrec.pipeline.inputs import cache_folder
from ctrlrec.pipeline.loading import load_builder
from ctrlrec.pipeline.settings import constrained, constraint_label, model_settings, without
from ctrlrec.pipeline.stage import Inputs, Stage
from ctrlrec.runtime import results
from ctrlrec.runtime.files import read_jsonl, write_jsonl, write_text
from ctrlrec.runtime.hardware import precision, settled

if TYPE_CHECKING:
    from ctrlrec.controls.instruction import Instruction
    from ctrlrec.generation.constraints.base import Constraint
    from ctrlrec.lm.chat_format import ChatFormat

log = logging.getLogger(__name__)


def run(config: Config, inputs: Inputs, directory: Path) -> None:
    """Write answers of all settings and their metrics, and general ability if it is asked for."""
    from ctrlrec.evaluation import general
    from ctrlrec.evaluation.answering import check_demands, predictions, teacher_answers, warn_of_useless
    from ctrlrec.evaluation.intervals import SHARE, summarise
    from ctrlrec.evaluation.matching import TitleMatcher
    from ctrlrec.evaluation.scoring import score
    from ctrlrec.generation.constraints import make_constraint
    from ctrlrec.runtime.loggers import log_answers, log_summary, loggers

    builder, chat_format = load_builder(config, inputs)
    constraint = None
    if constrained(config, "evaluate"):
        constraint = make_constraint(config.constraint, builder.catalogue, chat_format)
    if constraint is not None:
        check_demands(constraint, config, builder)  # before anything is answered
    answers_with, served = config.variant.answers_with, config.generation.engine
    by_server = answers_with == "api" or (answers_with == "model" and served == "api")
    exams = general.exams(config.general) if general.asked(config) else []
    model: Any = None
    if (answers_with == "model" and not by_server) or exams:
        model = _whole_model(config, inputs, chat_format)
    client = _client(config, inputs, chat_format) if by_server else None
    if answers_with == "teacher":
        answerer = teacher_answers(builder)
    elif client is not None:
        from ctrlrec.baselines.api import api_answers

        answerer = api_answers(client, config.trainer)
    elif served == "vllm":
        answerer = _vllm_answers(config, model, chat_format, constraint)
    else:
        answerer = model_answers(config, model, chat_format, constraint)
    settings = config.evaluation
    matcher = TitleMatcher(builder.catalogue.titles, settings.match_max_edits)
    with loggers(config, "evaluate", directory) as made:
        rows: list[dict[str, Any]] = []
        kept = directory / "answered"  # setting by setting, should the run be killed in a later one
        kept.mkdir(exist_ok=True)
        for setting in settings.settings:
            answered = kept / f"{setting}.jsonl"
            if client is not None or not answered.exists():  # a client keeps its answers, and its report counts them
                write_jsonl(answered, predictions(setting, config, builder, answerer, matcher))
            answers = read_jsonl(answered)
            warn_of_useless(answers, setting)
            rows += answers
        write_jsonl(directory / "predictions.jsonl", rows)
        if client is not None:
            report = client.cache.report()
            write_text(directory / "api.json", json.dumps(report, indent=2))
            log.info("%-12s %s", "api", ", ".join(f"{name} {value}" for name, value in report.items()))
        metrics = score(rows, builder.catalogue, settings.bootstrap_resamples, settings.confidence, config.seed)
        if exams:
            limit, size = config.general.limit, config.general.batch_size
            correct = general.general_scores(model, chat_format.tokenizer, exams, limit, size, str(model.device), kept)
            resampled = (settings.bootstrap_resamples, settings.confidence, config.seed, dict.fromkeys(correct, SHARE))
            parts = [summarise({name: right}, *resampled) for name, right in correct.items()]
            metrics["settings"]["general"] = {name: cell for part in parts for name, cell in part.items()}
        else:
            log.info("%-12s %s", "general", general.unasked_because(config))
        write_text(directory / "metrics.json", json.dumps(metrics, indent=2))
        log_summary(made, metrics)
        log_answers(made, rows, ("setting", "user", "category", "item_count", "prompt", "response"))
    shutil.rmtree(kept)


def _check(config: Config) -> None:
    """Refuse what would stop the evaluation after everything was trained.

    Raises:
        CtrlRecError: for a backbone that cannot be loaded, an extra that is not installed, a server without its key, or
            questions of general ability that cannot be read.
    """
    from ctrlrec.evaluation import general

    answers_with, engine = config.variant.answers_with, config.generation.engine
    if answers_with == "model":
        check_backbone(config)
        check_engine(config)
    if answers_with == "model" and engine == "vllm" and find_spec("vllm") is None:
        raise CtrlRecError("generation.engine=vllm: vLLM is not installed: pip install 'ctrlrec[vllm]', or engine=hf")
    key = config.api.key_variable
    if _server(config) and key is not None and not os.environ.get(key, "").strip():
        raise CtrlRecError(
            f"the environment variable {key} is empty: put the key of {config.api.url} into it, or set "
            "api.key_variable=null for a server without one"
        )
    if general.asked(config):
        general.exams(config.general)


def check_engine(config: Config) -> None:
    """Refuse the native decoder for a pretrained backbone that it does not support.

    Raises:
        CtrlRecError: with the reason.
    """
    if config.generation.engine != "native" or config.model.kind not in ("pretrained", "encoder_decoder"):
        return
    from ctrlrec.generation.network import unsupported
    from ctrlrec.lm.abilities import empty_model

    reason = unsupported(empty_model(config.model, cache_folder(config)))
    if reason is not None:
        raise CtrlRecError(f"generation.engine=native: {reason}; set generation.engine=auto")


def _answering_stages(config: Config) -> tuple[str, ...]:
    if config.variant.rl:
        return ("data", "teacher", "sl", "rl")
    return ("data", "teacher", "sl") if config.variant.tasks else ("data", "teacher")


def _candidates(config: Config) -> dict[str, Any]:
    """Return how many candidates a question gives; nothing if it gives none."""
    return {"candidates": config.instructions.candidate_count} if config.evaluation.selection else {}


def _server(config: Config) -> dict[str, Any]:
    """Return the server's URL and model if answers come from a server."""
    asked = "api" in (config.variant.answers_with, config.generation.engine)
    return {"api": [config.api.url, config.api.model]} if asked and config.variant.answers_with != "teacher" else {}


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


def _client(config: Config, inputs: Inputs, chat_format: "ChatFormat") -> Any:
    from ctrlrec.generation.server import ChatClient

    folder = cache_folder(config) / "answers"
    stop: list[str] = []
    if config.variant.answers_with == "model":
        stop = [str(chat_format.tokenizer.decode([end])) for end in sorted(chat_format.ends)]
        # One address and one name may serve every model of one's own in turn. The last result that made it tells them
        # apart; of an untrained one that is the data's, whose tokenizer is the backbone's.
        result = inputs.get("rl") or inputs.get("sl") or inputs["data"]
        folder /= "-".join([result.name, *filter(None, [results.read(result).get("made")])])
    return ChatClient(config.api, _longest(config), folder, stop)


def _longest(config: Config, constraint: "Constraint | None" = None) -> int:
    """Return the tokens of the longest answer; one that a constraint ends has room for long titles."""
    if constraint is not None and constraint.ends_itself:
        return config.model.max_response_length
    return min(config.generation.max_new_tokens, config.model.max_response_length)


def _whole_model(config: Config, inputs: Inputs, chat_format: "ChatFormat") -> Any:
    from ctrlrec.evaluation.general import asked
    from ctrlrec.lm.policy import load_policy
    from ctrlrec.runtime.hardware import device

    stages = inputs.get("sl"), inputs.get("rl")
    fold = config.generation.engine == "vllm"  # which is given plain weights
    model = load_policy(
        settled(config),
        cache_folder(config),
        chat_format.tokenizer,
        config.seed,
        *stages,
        fold=fold,
        items=chat_format.items,
    )
    if not fold or asked(config):  # vLLM reads it from files, and would have the device for itself
        model = model.to(device(config.trainer))  # type: ignore[arg-type,assignment]
    return model.eval()


def _vllm_answers(config: Config, model: Any, chat_format: "ChatFormat", constraint: "Constraint | None") -> Any:
    from ctrlrec.generation.vllm import vllm_generator

    generate = vllm_generator(model, chat_format, config.model.max_length, config.seed, constraint)
    limit = _longest(config, constraint)

    def answer(asked: Sequence[Any]) -> list[str]:
        prompts = chat_format.prompts([instruction.messages for instruction in asked])
        return [chat_format.decode(row) for row in generate(prompts, limit, asked)]

    return answer


def model_answers(
    config: Config, model: Any, chat_format: "ChatFormat", constraint: "Constraint | None"
) -> Callable[[Sequence["Instruction"]], list[str]]:
    """Return what answers instructions with a model, greedily or with its best beams.

    Args:
        config: of the run.
        model: in evaluation mode.
        chat_format: of the model.
        constraint: what it may write; None for anything.
    """
    from ctrlrec.baselines.instructrec import beam_lists
    from ctrlrec.generation.constraints.base import start
    from ctrlrec.generation.generate import generate
    from ctrlrec.runtime.hardware import autocast
    from ctrlrec.runtime.progress import progress

    limit, batch_size = _longest(config, constraint), config.generation.batch_size
    beams = config.variant.beam_search

    def answer(asked: Sequence[Any]) -> list[str]:
        prompts = chat_format.prompts([instruction.messages for instruction in asked])
        starts = [] if constraint is None else [start(constraint, instruction, beams) for instruction in asked]
        with progress(config.trainer, asked[0].task, len(asked)) as advance, autocast(config.trainer):
            if beams:
                counts = [instruction.item_count for instruction in asked]
                longest = min(limit, config.dataset.title_max_tokens + 1)  # one title and the end
                return beam_lists(model, chat_format, prompts, counts, longest, batch_size, advance, constraint, starts)
            engine = config.generation.engine
            answers = generate(
                model, chat_format, prompts, limit, engine, None, 1, batch_size, advance, constraint, starts
            )
        return [chat_format.decode(answer.tokens) for answer in answers]

    return answer


STAGE = Stage(
    "evaluate",
    _answering_stages,
    lambda c: (
        {
            "evaluation": without(c.evaluation, "constrained"),
            "model": model_settings(c),
            "variant": without(c.variant, "description", "differs", "table"),
            "generation": without(c.generation, "batch_size"),
            "seed": c.seed,
            "precision": precision(c.trainer),
        }
        | _candidates(c)
        | constrained(c, "evaluate")
        | _server(c)
        | _general(c)
        | _added_metrics()
    ),
    lambda c: f"{c.dataset.name}-{c.model.name}-{c.variant.name}" + constraint_label(c, "evaluate"),
    run,
    "lower generation.batch_size",
    check=_check,
)
