"""The stage ``data``: catalogue, sequences, data card and tokenizer."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import Config
from ctrlrec.config.split import data_label, deciding
from ctrlrec.errors import CtrlRecError
from ctrlrec.pipeline.inputs import cache_folder
from ctrlrec.pipeline.settings import dialogues, tokenizer_settings, without
from ctrlrec.pipeline.stage import Inputs, Stage

if TYPE_CHECKING:
    from ctrlrec.data.prepare import Prepared
    from ctrlrec.lm.chat_format import ChatFormat

log = logging.getLogger(__name__)


def run(config: Config, inputs: Inputs, directory: Path) -> None:
    """Write catalogue, sequences, data card and the backbone's tokenizer."""
    from ctrlrec.data import card

    report = write_data(config, directory)
    card.save(report, directory)
    card.show(report)


def write_data(config: Config, directory: Path) -> dict[str, Any]:
    """Write catalogue, sequences and the backbone's tokenizer, whose tokens decide where titles are cut.

    Args:
        config: its data set is fetched if it is not in the cache.
        directory: an empty one.

    Returns:
        The numbers of the data card.
    """
    from ctrlrec.data.prepare import prepare
    from ctrlrec.data.titles import cut_titles
    from ctrlrec.instructions import chat, templates
    from ctrlrec.lm.backbone import answer_ends, make_tokenizer, save_tokenizer
    from ctrlrec.lm.chat_format import ChatFormat
    from ctrlrec.lm.indexing import TITLE

    ends = answer_ends(config.model, cache_folder(config))
    made: list[ChatFormat] = []

    def cut(titles: list[str], categories: list[str]) -> list[str]:
        def texts() -> list[str]:
            dialogues, _ = chat.load_dialogues(config.instructions.chat_path)
            turns = [text for dialogue in dialogues for _, text in dialogue.messages]
            # An item with a token of its own needs no merges of its title.
            shown = titles if config.indexing.name == TITLE else [""]
            return [*templates.specimens(shown, categories), *turns]

        tokenizer = make_tokenizer(config.model, cache_folder(config), texts)
        made.append(ChatFormat(tokenizer, config.model, ends))  # refuses a tokenizer without a chat template
        return cut_titles(tokenizer, titles, config.dataset.title_max_tokens)

    prepared = prepare(config.dataset, cache_folder(config), cut, lambda names: _writable(made[0], names))
    prepared.catalogue.save(directory / "catalogue.jsonl")
    prepared.sequences.save(directory / "sequences.jsonl", prepared.catalogue)
    tokenizer = made[0].tokenizer
    backend = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    backend.no_truncation()  # of titles, or as it came: other readers of tokenizer.json obey it unasked
    backend.no_padding()
    _tell_of_system_turns(config, made[0])
    save_tokenizer(tokenizer, ends, directory / "tokenizer")
    return prepared.report


def prepared_again(config: Config, directory: Path) -> "Prepared":
    """Prepare the source of a finished data stage again, with the tokenizer that the stage left.

    Args:
        config: of the result.
        directory: of the result.

    Raises:
        CtrlRecError: if the source is missing, or its files are others than those that the stage read.
    """
    from ctrlrec.data.prepare import prepare, source_digest
    from ctrlrec.data.titles import cut_titles
    from ctrlrec.lm.chat_format import ChatFormat

    recorded = json.loads((directory / "stage.json").read_text(encoding="utf-8"))["settings"].get("source")
    if source_digest(config.dataset) != recorded:
        raise CtrlRecError(f"{config.dataset.path}: the files there are not those that {directory.name} was made from")
    chat_format = ChatFormat.load(directory / "tokenizer", config.model)

    def cut(titles: list[str], categories: list[str]) -> list[str]:
        return cut_titles(chat_format.tokenizer, titles, config.dataset.title_max_tokens)

    return prepare(config.dataset, cache_folder(config), cut, lambda names: _writable(chat_format, names))


def _writable(chat_format: "ChatFormat", names: list[str]) -> list[bool]:
    """Return whether each name, as a line of an answer, comes back from its tokens as it was."""
    from ctrlrec.data.titles import composed

    lines = [f"1. {name}" for name in names]
    texts = map(chat_format.decode, chat_format.contents(lines))
    return [composed(text) == line for text, line in zip(texts, lines, strict=True)]


def _tell_of_system_turns(config: Config, chat_format: "ChatFormat") -> None:
    """Log how many system turns go into the first user turn, because the chat template takes none."""
    from ctrlrec.instructions import chat

    if not chat_format.folds_system:
        return
    parts = ["model.system_prompt"] if config.model.system_prompt else []
    if "chat" in config.variant.tasks:
        dialogues, _ = chat.load_dialogues(config.instructions.chat_path)
        led = sum(dialogue.messages[0][0] == "system" for dialogue in dialogues)
        parts += [f"those of {led} of {len(dialogues)} dialogues"] if led else []
    if parts:
        log.warning(
            "%-12s the chat template takes no system turn: %s lead the first user turn instead",
            "chat", " and ".join(parts),
        )  # fmt: skip


def _check(config: Config) -> None:
    """Refuse a ``model.path`` whose tokenizer cannot be loaded."""
    from ctrlrec.lm.checks import check_folder

    if config.model.path is not None:
        check_folder(config.model.path)


def _data_settings(config: Config) -> dict[str, Any]:
    from ctrlrec.data.prepare import source_digest

    settings = {
        # Local data are identified by content, whatever their path.
        "dataset": deciding(without(config.dataset, "path") if config.dataset.path else plain(config.dataset)),
        "tokenizer": tokenizer_settings(config),
        "source": source_digest(config.dataset),
    }
    if config.indexing.name != "title":
        settings["indexing"] = plain(config.indexing)
    # A tokenizer of our own learns from the dialogues too.
    return settings | (dialogues(config) if config.model.kind == "llama_mini" else {})


STAGE = Stage(
    "data",
    lambda _: (),
    _data_settings,
    lambda c: f"{data_label(c.dataset)}-{c.model.name}",
    run,
    check=_check,
)
