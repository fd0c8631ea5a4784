"""One answer, judged once: which items it names, whether each is legal, how the teacher ranks it.

Rewards read a judgement and nothing else about an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue

if TYPE_CHECKING:
    from ctrlrec.teacher.ranker import Ranker

Illegal = Literal["nonexistent", "repeat", "history", "excess"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """An answer as rewards see it; every tuple has one entry per written item.

    Attributes:
        instruction: what was asked.
        items: catalogue index, of a title that was no candidate as well; None for one that is not in the catalogue.
        illegal: why an item is illegal, None for a legal one (spec section 5).
        inside: whether the item is in the category asked about.
        ranks: the teacher's 0-based rank; None where no item or an item of the history.
        category_size: catalogue items in the category; 0 without one.
    """

    instruction: Instruction
    items: tuple[int | None, ...]
    illegal: tuple[Illegal | None, ...]
    inside: tuple[bool, ...]
    ranks: tuple[int | None, ...]
    category_size: int

    @property
    def count_in(self) -> int:
        """Legal items in the category."""
        return sum(inside for inside, illegal in zip(self.inside, self.illegal, strict=True) if illegal is None)

    @property
    def count_out(self) -> int:
        """Legal items outside the category."""
        return sum(not inside for inside, illegal in zip(self.inside, self.illegal, strict=True) if illegal is None)


def legality(
    items: Sequence[int | None], history: Sequence[int], item_count: int, candidates: Sequence[int] | None = None
) -> tuple[Illegal | None, ...]:
    """Why each written item is illegal; the first reason of nonexistent, repeat, history, excess counts.

    Where there are candidates, nothing else exists.
    """
    offered = None if candidates is None else set(candidates)
    shown, seen = set(history), set[int | None]()
    reasons: list[Illegal | None] = []
    for position, item in enumerate(items):
        reason: Illegal | None = None
        if item is None or (offered is not None and item not in offered):
            reason = "nonexistent"
        elif item in seen:
            reason = "repeat"
        elif item in shown:
            reason = "history"
        elif position >= item_count:
            reason = "excess"
        seen.add(item)
        reasons.append(reason)
    return tuple(reasons)


def judge(
    instructions: Sequence[Instruction], answers: Sequence[Sequence[str]], catalogue: Catalogue, ranker: "Ranker"
) -> list[Judgement]:
    """Judge a batch of answers.

    Args:
        instructions: B instructions.
        answers: B lists of titles as written; they match exactly, but for outer quotes of a title, or not at all.
        catalogue: titles and categories.
        ranker: the teacher.
    """
    resolved = [[catalogue.answer_index.get(title) for title in titles] for titles in answers]
    ranks = ranker.ranks([instruction.history for instruction in instructions], resolved)
    judgements = []
    for instruction, items, places in zip(instructions, resolved, ranks, strict=True):
        row, size = None, 0
        if instruction.category is not None:
            index = catalogue.category_index[instruction.category]
            row, size = catalogue.membership[index], int(catalogue.category_sizes[index])
        judgements.append(
            Judgement(
                instruction,
                tuple(items),
                legality(items, instruction.history, instruction.item_count, instruction.candidates),
                tuple(row is not None and item is not None and bool(row[item]) for item in items),
                tuple(places),
                size,
            )
        )
    return judgements
