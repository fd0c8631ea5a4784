"""One answer, judged once: which items it names, whether each is legal, how the teacher ranks it.

Rewards read a judgement and nothing else about an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.data.catalogue import Catalogue

if TYPE_CHECKING:
    from ctrlrec.teacher.ranker import Ranker

Illegal = Literal["nonexistent", "repeat", "history", "excess"]


@dataclass(frozen=True, slots=True)
class Side:
    """One condition of an instruction, and which written items are on its side of the category.

    Attributes:
        condition: what was wished.
        inside: whether each written item is in the category.
        count_in: legal items in the category; ``count_out`` those outside it.
        category_size: catalogue items in the category.
    """

    condition: Condition
    inside: tuple[bool, ...]
    count_in: int
    count_out: int
    category_size: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """An answer as rewards see it; every tuple but ``sides`` has one entry per written item.

    Attributes:
        instruction: what was asked.
        items: catalogue index, of a title that was not a candidate as well; None for one that is not in the catalogue.
        illegal: why an item is illegal, None for a legal one (spec section 5).
        ranks: the teacher's 0-based rank; None if no item or an item of the history.
        sides: one for each condition of the instruction.
    """

    instruction: Instruction
    items: tuple[int | None, ...]
    illegal: tuple[Illegal | None, ...]
    ranks: tuple[int | None, ...]
    sides: tuple[Side, ...]


def side_of(
    condition: Condition, items: Sequence[int | None], illegal: Sequence[Illegal | None], catalogue: Catalogue
) -> Side:
    """Return where written items stand to a condition.

    Args:
        condition: what was wished.
        items: catalogue indices; None for a title that is not an item.
        illegal: why each is illegal.
        catalogue: membership.
    """
    index = catalogue.category_index[condition.category]
    row = catalogue.membership[index]
    inside = tuple(item is not None and bool(row[item]) for item in items)
    legal = [flag for flag, reason in zip(inside, illegal, strict=True) if reason is None]
    return Side(condition, inside, sum(legal), len(legal) - sum(legal), int(catalogue.category_sizes[index]))


def legality(
    items: Sequence[int | None], history: Sequence[int], item_count: int, candidates: Sequence[int] | None = None
) -> tuple[Illegal | None, ...]:
    """Return why each written item is illegal; the first reason of nonexistent, repeat, history, excess counts.

    If there are candidates, nothing else exists.
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
        answers: B lists of titles as written; they match exactly, except for outer quotes of a title, or not at all.
        catalogue: titles and categories.
        ranker: the teacher.
    """
    resolved = [[catalogue.answer_index.get(title) for title in titles] for titles in answers]
    ranks = ranker.ranks([instruction.history for instruction in instructions], resolved)
    judgements = []
    for instruction, items, places in zip(instructions, resolved, ranks, strict=True):
        illegal = legality(items, instruction.history, instruction.item_count, instruction.candidates)
        sides = tuple(side_of(condition, items, illegal, catalogue) for condition in instruction.conditions)
        judgements.append(Judgement(instruction, tuple(items), illegal, tuple(places), sides))
    return judgements
