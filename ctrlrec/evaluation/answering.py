"""Asks every question of every setting and writes ``predictions.jsonl``."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ctrlrec.config.schema import Config
from ctrlrec.controls.instruction import Example, Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.evaluation.settings import questions
from ctrlrec.generation.constraints.base import Constraint, start
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.lenient import lenient_titles
from ctrlrec.lm.parsing import written_items
from ctrlrec.runtime.escaping import inert

log = logging.getLogger(__name__)

_SHOWN = 300  # characters of an answer in a warning

Answerer = Callable[[Sequence[Instruction]], list[str]]


def teacher_answers(builder: InstructionBuilder) -> Answerer:
    """Return the row ``sasrec``: the teacher's best k items, of the candidates if there are any, whatever is asked."""

    def answer(asked: Sequence[Instruction]) -> list[str]:
        depth = max(instruction.item_count for instruction in asked)
        candidates = [instruction.candidates for instruction in asked]
        best = builder.ranker.top_k([instruction.history for instruction in asked], depth, candidates)
        titles = builder.catalogue.titles
        return [
            templates.answer([titles[item] for item in items[: instruction.item_count]])
            for instruction, items in zip(asked, best, strict=True)
        ]

    return answer


def check_demands(constraint: Constraint, config: Config, builder: InstructionBuilder) -> None:
    """Refuse an evaluation that asks for a list which its constraint rules out.

    Args:
        constraint: what may be written.
        config: its ``evaluation`` section says who is asked what.
        builder: catalogue, sequences and teacher.

    Raises:
        CtrlRecError: naming setting and user.
    """
    variant = config.variant
    for setting in config.evaluation.settings:
        for example in questions(setting, builder, config.evaluation, variant.prompt_suffix, variant.first_users):
            try:
                start(constraint, example.instruction, variant.beam_search)
            except CtrlRecError as error:
                raise CtrlRecError(
                    f"evaluation.settings={setting}, user {example.instruction.user}: {error}, leave the setting out, "
                    "or relax the constraint"
                ) from None


def predictions(
    setting: str, config: Config, builder: InstructionBuilder, answerer: Answerer, matcher: TitleMatcher
) -> Iterator[dict[str, Any]]:
    """Return lines of ``predictions.jsonl`` of one setting: its questions, answered and read.

    Args:
        setting: its name.
        config: see :func:`asked_of` and :func:`lines`.
        builder: catalogue, sequences and teacher.
        answerer: turns instructions into answer texts.
        matcher: turns written titles into items; it remembers, so one serves all settings.
    """
    examples = asked_of(setting, config, builder)
    return lines(setting, examples, answered(examples, answerer), config, builder, matcher)


def asked_of(setting: str, config: Config, builder: InstructionBuilder) -> list[Example]:
    """Return the questions of one setting; none, with a warning, if nobody can be asked.

    Args:
        setting: its name.
        config: its ``evaluation`` section decides, and the variant's prompt suffix and number of users.
        builder: catalogue, sequences and teacher.
    """
    variant = config.variant
    examples = questions(setting, builder, config.evaluation, variant.prompt_suffix, variant.first_users)
    if not examples:
        log.warning(
            "%-12s %s: left out, there is nothing to ask: every target has every category, or no list meets a blend",
            "",
            setting,
        )
    return examples


def answered(examples: Sequence[Example], answerer: Answerer) -> list[str]:
    """Return the text of the answer to each question."""
    return answerer([example.instruction for example in examples]) if examples else []


def lines(
    setting: str,
    examples: Sequence[Example],
    texts: Sequence[str],
    config: Config,
    builder: InstructionBuilder,
    matcher: TitleMatcher,
) -> Iterator[dict[str, Any]]:
    """Return lines of ``predictions.jsonl`` (spec section 9) of one setting.

    If candidates were given, the line holds them, and an item that is not among them counts as none. For a blend it
    holds the best list that meets all conditions, with its teacher ranks: what regret is measured against.

    Args:
        setting: its name.
        examples: B questions.
        texts: B answers.
        config: its variant says how answers are read.
        builder: catalogue and teacher.
        matcher: turns written titles into items; it remembers, so one serves all settings.
    """
    if not examples:
        return
    catalogue = builder.catalogue
    asked = [example.instruction for example in examples]
    written, items = read_answers(asked, texts, matcher, config.variant.lenient_answers)
    ranks = builder.ranker.ranks([instruction.history for instruction in asked], items)
    for example, text, titles, matched, places in zip(examples, texts, written, items, ranks, strict=True):
        instruction = example.instruction
        shown = instruction.record(catalogue)
        yield {
            "setting": setting,
            "user": shown["user"],
            "history": shown["history"],
            "target": shown["target"],
            "item_count": shown["item_count"],
            "category": shown["category"],
            "proportion": shown["proportion"],
            "constraints": shown["constraints"],
            **({} if instruction.candidates is None else {"candidates": shown["candidates"]}),
            "prompt": shown["prompt"],
            "response": text,
            "titles": titles,
            "items": [None if item is None else catalogue.titles[item] for item in matched],
            "teacher_rank": places,
            **_best(example, catalogue),
        }


def read_answers(
    asked: Sequence[Instruction], texts: Sequence[str], matcher: TitleMatcher, lenient: bool
) -> tuple[list[list[str]], list[list[int | None]]]:
    """Return the titles that answers hold, as written, and the item that each one is.

    Args:
        asked: B instructions.
        texts: B answers.
        matcher: turns written titles into items. An item that is not among given candidates counts as none.
        lenient: whether any form of a list is read (:mod:`ctrlrec.lm.lenient`).
    """
    if lenient:
        written = [lenient_titles(text, lambda title: matcher(title) is not None) for text in texts]
    else:
        written = [[item.title for item in written_items(text)] for text in texts]
    items = [
        [item if instruction.candidates is None or item in instruction.candidates else None for item in found]
        for instruction, found in zip(asked, ([matcher(title) for title in row] for row in written), strict=True)
    ]
    return written, items


def _best(example: Example, catalogue: Catalogue) -> dict[str, Any]:
    if not example.instruction.blend:
        return {}
    return {"best": [catalogue.titles[item] for item in example.labels], "best_rank": list(example.label_ranks)}


def warn_of_useless(rows: Sequence[dict[str, Any]], setting: str) -> None:
    """Log answers of a setting that no metric can tell from silence, with the first of them as it came.

    Args:
        rows: lines of ``predictions.jsonl``.
        setting: their setting.
    """
    empty = sum(not row["titles"] for row in rows)
    if 2 * empty > len(rows):
        log.warning("%-12s %s: %d of %d answers are empty", "", setting, empty, len(rows))
    if not rows:
        return
    reasons = []
    if all(len(row["titles"]) != row["item_count"] for row in rows):
        reasons.append("no answer has the number of items asked for")
    if empty < len(rows) and all(item is None for row in rows for item in row["items"]):
        reasons.append("no item is in the catalogue")
    if reasons:
        first = inert(rows[0]["response"][:_SHOWN])
        log.warning("%-12s %s: %s; the first answer: %r", "", setting, " and ".join(reasons), first)
