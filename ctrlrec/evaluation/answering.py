"""Asks every question of every setting and writes ``predictions.jsonl``."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ctrlrec.config.schema import Config
from ctrlrec.controls.instruction import Example, Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.evaluation.settings import questions
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.parsing import written_items

log = logging.getLogger(__name__)

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


def predictions(
    setting: str, config: Config, builder: InstructionBuilder, answerer: Answerer, matcher: TitleMatcher
) -> Iterator[dict[str, Any]]:
    """Lines of ``predictions.jsonl`` (spec section 9) of one setting; none where nobody can be asked.

    Where candidates were given, the line holds them, and an item that is not among them counts as none. For a blend it
    holds the best list that meets all conditions, with its teacher ranks: what regret is measured against.

    Args:
        setting: its name.
        config: its ``evaluation`` section, the variant's prompt suffix and its number of users decide.
        builder: catalogue, sequences and teacher.
        answerer: turns instructions into answer texts.
        matcher: turns written titles into items; it remembers, so one serves all settings.
    """
    catalogue = builder.catalogue
    variant = config.variant
    examples = questions(setting, builder, config.evaluation, variant.prompt_suffix, variant.first_users)
    asked = [example.instruction for example in examples]
    if not asked:
        log.warning(
            "%-12s %s: left out, there is nothing to ask: every target has every category, or no list meets a blend",
            "",
            setting,
        )
        return
    texts = answerer(asked)
    written = [[item.title for item in written_items(text)] for text in texts]
    items = [
        [item if instruction.candidates is None or item in instruction.candidates else None for item in found]
        for instruction, found in zip(asked, ([matcher(title) for title in row] for row in written), strict=True)
    ]
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


def _best(example: Example, catalogue: Catalogue) -> dict[str, Any]:
    if not example.instruction.blend:
        return {}
    return {"best": [catalogue.titles[item] for item in example.labels], "best_rank": list(example.label_ranks)}


def warn_of_empty(rows: Sequence[dict[str, Any]], setting: str) -> None:
    """Say so where most answers of a setting, ``rows``, hold no item at all: their metrics are those of silence."""
    empty = sum(not row["titles"] for row in rows)
    if 2 * empty > len(rows):
        log.warning("%-12s %s: %d of %d answers are empty", "", setting, empty, len(rows))
