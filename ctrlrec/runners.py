"""How each stage is done: loads what upstream stages left, calls the rooms, writes the files of spec section 9.

Every function takes ``(config, inputs, directory)``: the finished upstream directories by stage name and the partial
directory to fill. Imports are local, so that a run loads only the libraries of the stages it really runs.
"""

import dataclasses
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlrec import processes
from ctrlrec.config import Config
from ctrlrec.provenance import read_jsonl, write_jsonl, write_text

if TYPE_CHECKING:
    from ctrlrec.data.catalogue import Catalogue
    from ctrlrec.data.sequences import Sequences
    from ctrlrec.instructions.builder import InstructionBuilder
    from ctrlrec.lm.chat_format import ChatFormat

log = logging.getLogger(__name__)

Inputs = dict[str, Path]


def _cache(config: Config) -> Path:
    cache = Path(config.cache).expanduser()
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def data(config: Config, inputs: Inputs, directory: Path) -> None:
    """Catalogue, sequences, data card and the backbone's tokenizer, whose tokens decide where titles are cut."""
    from transformers import PreTrainedTokenizerBase

    from ctrlrec.data import card
    from ctrlrec.data.prepare import prepare
    from ctrlrec.instructions import chat, templates
    from ctrlrec.lm.backbone import make_tokenizer
    from ctrlrec.lm.chat_format import ChatFormat

    made: list[PreTrainedTokenizerBase] = []

    def cut(titles: list[str], categories: list[str]) -> list[str]:
        def texts() -> list[str]:
            dialogues, _ = chat.load_dialogues(config.instructions.chat_path)
            turns = [text for dialogue in dialogues for _, text in dialogue.messages]
            return [*templates.specimens(titles, categories), *turns]

        tokenizer = make_tokenizer(config.model, _cache(config), texts)
        made.append(tokenizer)
        return cut_titles(tokenizer, titles, config.dataset.title_max_tokens)

    prepared = prepare(config.dataset, _cache(config), cut)
    prepared.catalogue.save(directory / "catalogue.jsonl")
    prepared.sequences.save(directory / "sequences.jsonl", prepared.catalogue)
    card.save(prepared.report, directory)
    card.show(prepared.report)
    backend = made[0].backend_tokenizer
    backend.no_truncation()  # of titles, or as it came: other readers of tokenizer.json obey it unasked
    backend.no_padding()
    ChatFormat(made[0], config.model)  # refuses a tokenizer without a chat template, before anything is trained
    made[0].save_pretrained(directory / "tokenizer")


def cut_titles(tokenizer: Any, titles: Sequence[str], limit: int) -> list[str]:
    """Titles of at most ``limit`` tokens: cut where the token behind the last begins, but never to nothing.

    A token of a byte-level tokenizer may hold parts of two characters. They go together, and what is left may again be
    too long.
    """
    cut = list(titles)
    long = list(range(len(cut)))
    while long:
        offsets = tokenizer(
            [cut[index] for index in long],
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            truncation=True,
            max_length=limit + 1,
        )["offset_mapping"]
        shorter = {
            index: cut[index][: spans[limit][0]].rstrip() or cut[index][:1]
            for index, spans in zip(long, offsets, strict=True)
            if len(spans) > limit
        }
        long = [index for index, title in shorter.items() if title != cut[index]]
        for index in long:
            cut[index] = shorter[index]
    return cut


def _dataset(config: Config, inputs: Inputs) -> tuple["Catalogue", "Sequences"]:
    from ctrlrec.data.catalogue import Catalogue
    from ctrlrec.data.sequences import Sequences

    catalogue = Catalogue.load(inputs["data"] / "catalogue.jsonl")
    return catalogue, Sequences.load(inputs["data"] / "sequences.jsonl", catalogue, config.dataset.history_length)


def load_builder(config: Config, inputs: Inputs) -> tuple["InstructionBuilder", "ChatFormat"]:
    """What gives a variant its instructions, and the backbone's prompt format."""
    from ctrlrec.baselines.instructrec import InstructRecInstructions
    from ctrlrec.baselines.palr import PALRInstructions
    from ctrlrec.instructions.builder import InstructionBuilder
    from ctrlrec.lm.backbone import load_tokenizer
    from ctrlrec.lm.chat_format import ChatFormat
    from ctrlrec.teacher.ranker import Ranker
    from ctrlrec.tracking import prepare_hardware

    builders = {"paper": InstructionBuilder, "palr": PALRInstructions, "instructrec": InstructRecInstructions}
    prepare_hardware(config.trainer)
    catalogue, sequences = _dataset(config, inputs)
    chat_format = ChatFormat(load_tokenizer(inputs["data"] / "tokenizer"), config.model)
    ranker = Ranker.load(inputs["teacher"])
    make = builders[config.variant.instructions]
    return make(catalogue, sequences, ranker, config.instructions, chat_format.limit(), config.seed), chat_format


def teacher(config: Config, inputs: Inputs, directory: Path) -> None:
    """SASRec and its accuracy on validation and test."""
    from ctrlrec.teacher.train import train_teacher
    from ctrlrec.tracking import loggers, prepare_hardware

    prepare_hardware(config.trainer)
    catalogue, sequences = _dataset(config, inputs)
    with loggers(config, "teacher", directory) as made:
        metrics = train_teacher(config.teacher, config.trainer, catalogue, sequences, config.seed, directory, made, [])
    processes.once(lambda: write_text(directory / "teacher.json", json.dumps(metrics, indent=2)))


def instructions(config: Config, inputs: Inputs, directory: Path) -> None:
    """One epoch of the instruction set and its counts (Table 7); the trainer builds the other epochs the same way."""
    from collections import Counter

    builder, _ = load_builder(config, inputs)
    families = ("sequential", "category", "proportion", "search", "chat")
    examples = builder.epoch(0, families)
    write_jsonl(directory / "instructions.jsonl", (example.record(builder.catalogue) for example in examples))
    write_jsonl(directory / "validation.jsonl", (example.record(builder.catalogue) for example in builder.validation()))
    counts = Counter(example.instruction.task.value for example in examples)
    report = {"counts": counts, "total": len(examples), "chat": dataclasses.asdict(builder.chat_report)}
    log.info("%-12s %s", "chat", builder.chat_report)
    write_text(directory / "counts.json", json.dumps(report, indent=2))


def sl(config: Config, inputs: Inputs, directory: Path) -> None:
    """The backbone after supervised fine-tuning."""
    from ctrlrec.lm.policy import load_policy
    from ctrlrec.sl.train import fine_tune
    from ctrlrec.tracking import loggers

    builder, chat_format = load_builder(config, inputs)
    model = load_policy(config.model, _cache(config), chat_format.tokenizer, config.seed)
    with loggers(config, "sl", directory) as made:
        fine_tune(config, model, chat_format, builder, directory, made)


def rl(config: Config, inputs: Inputs, directory: Path) -> None:
    """Actor and critic after PPO, and every rollout."""
    from ctrlrec.lm.policy import load_policy
    from ctrlrec.rl.train import align
    from ctrlrec.tracking import loggers

    builder, chat_format = load_builder(config, inputs)
    model = load_policy(config.model, _cache(config), chat_format.tokenizer, config.seed, inputs["sl"])
    with loggers(config, "rl", directory) as made:
        align(config, model, chat_format, builder, directory, made)


def evaluate(config: Config, inputs: Inputs, directory: Path) -> None:
    """Answers of all settings and their metrics, and general ability where it is asked."""
    from ctrlrec.evaluation import general
    from ctrlrec.evaluation.answering import predictions, teacher_answers, warn_of_empty
    from ctrlrec.evaluation.matching import TitleMatcher
    from ctrlrec.evaluation.metrics import score, summarise
    from ctrlrec.tracking import log_answers, log_summary, loggers

    builder, chat_format = load_builder(config, inputs)
    answers_with, served = config.variant.answers_with, config.generation.engine
    by_server = answers_with == "api" or (answers_with == "model" and served == "api")
    exams = general.exams(config.general) if general.asked(config) else []
    model: Any = None
    if (answers_with == "model" and not by_server) or exams:
        model = _whole_model(config, inputs, chat_format)
    client = _client(config, inputs) if by_server else None
    if answers_with == "teacher":
        answerer = teacher_answers(builder)
    elif client is not None:
        from ctrlrec.baselines.api import api_answers

        answerer = api_answers(client, config.trainer)
    else:
        answerer = (_vllm_answers if served == "vllm" else _model_answers)(config, model, chat_format)
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
            warn_of_empty(answers, setting)
            rows += answers
        write_jsonl(directory / "predictions.jsonl", rows)
        if client is not None:
            report = client.report()
            write_text(directory / "api.json", json.dumps(report, indent=2))
            log.info("%-12s %s", "api", ", ".join(f"{name} {value}" for name, value in report.items()))
        metrics = score(rows, builder.catalogue, settings.bootstrap_resamples, settings.confidence, config.seed)
        if exams:
            limit, size = config.general.limit, config.general.batch_size
            correct = general.general_scores(model, chat_format.tokenizer, exams, limit, size, str(model.device), kept)
            parts = [summarise({name: right}, settings.bootstrap_resamples, settings.confidence, config.seed)
                     for name, right in correct.items()]  # fmt: skip
            metrics["settings"]["general"] = {name: cell for part in parts for name, cell in part.items()}
        else:
            log.info("%-12s %s", "general", general.unasked_because(config))
        write_text(directory / "metrics.json", json.dumps(metrics, indent=2))
        log_summary(made, metrics)
        log_answers(made, rows, ("setting", "user", "category", "item_count", "prompt", "response"))
    shutil.rmtree(kept)


def _client(config: Config, inputs: Inputs) -> Any:
    from ctrlrec.lm.chat_api import ChatClient

    folder = _cache(config) / "answers"
    if config.variant.answers_with == "model":
        # One address and one name may serve every model of one's own in turn. The last result that made it tells them
        # apart; of an untrained one that is the data's, whose tokenizer is the backbone's.
        folder /= (inputs.get("rl") or inputs.get("sl") or inputs["data"]).name
    return ChatClient(config.api, _longest(config), folder)


def _longest(config: Config) -> int:
    return min(config.generation.max_new_tokens, config.model.max_response_length)


def _whole_model(config: Config, inputs: Inputs, chat_format: "ChatFormat") -> Any:
    from ctrlrec.evaluation.general import asked
    from ctrlrec.lm.policy import load_policy
    from ctrlrec.tracking import device

    stages = inputs.get("sl"), inputs.get("rl")
    fold = config.generation.engine == "vllm"  # which is given plain weights
    model = load_policy(config.model, _cache(config), chat_format.tokenizer, config.seed, *stages, fold=fold)
    if not fold or asked(config):  # vLLM reads it from files, and would have the device for itself
        model = model.to(device(config.trainer))  # type: ignore[arg-type,assignment]
    return model.eval()


def _vllm_answers(config: Config, model: Any, chat_format: "ChatFormat") -> Any:
    from ctrlrec.lm.vllm_engine import vllm_generator

    generate = vllm_generator(model, chat_format, config.model.max_length, config.seed)

    def answer(asked: Sequence[Any]) -> list[str]:
        prompts = chat_format.prompts([instruction.messages for instruction in asked])
        return [chat_format.decode(row) for row in generate(prompts, _longest(config))]

    return answer


def _model_answers(config: Config, model: Any, chat_format: "ChatFormat") -> Any:
    from ctrlrec.baselines.instructrec import beam_lists
    from ctrlrec.lm.generation import generate
    from ctrlrec.tracking import autocast, progress

    limit, batch_size = _longest(config), config.generation.batch_size

    def answer(asked: Sequence[Any]) -> list[str]:
        prompts = chat_format.prompts([instruction.messages for instruction in asked])
        with progress(config.trainer, asked[0].task.value, len(asked)) as advance, autocast(config.trainer):
            if config.variant.beam_search:
                counts = [instruction.item_count for instruction in asked]
                longest = min(limit, config.dataset.title_max_tokens + 1)  # one title and the end
                return beam_lists(model, chat_format, prompts, counts, longest, batch_size, advance)
            answers = generate(
                model, chat_format, prompts, limit, config.generation.engine, batch_size=batch_size, progress=advance
            )
        return [chat_format.decode(answer.tokens) for answer in answers]

    return answer
