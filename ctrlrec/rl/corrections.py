"""Corrected answers: what the model wrote, with the teacher's items in place of those that may not stand there."""

from collections.abc import Sequence

from ctrlrec.controls.lookahead import cells_of_items, open_cells, ranges_after, ranges_of
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.generation.sample import Sample
from ctrlrec.instructions import templates
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rewards.judging import Judgement
from ctrlrec.teacher.ranker import Ranker


def corrections(
    judgements: Sequence[Judgement], catalogue: Catalogue, ranker: Ranker, chat_format: ChatFormat
) -> list[Sample]:
    """Return the corrected answers; the items of one that no list can correct stay as they are.

    Args:
        judgements: of the answers, one to a prompt.
        catalogue: titles and membership.
        ranker: the teacher.
        chat_format: writes an answer as tokens.

    Returns:
        Answers without log-probabilities of their own: 0 each, as of greedy ones.
    """
    histories = [judgement.instruction.history for judgement in judgements]
    texts = []
    for judgement, order in zip(judgements, ranker.top_k(histories, len(catalogue)), strict=True):
        items = corrected(judgement, order, catalogue)
        if items is None:
            items = tuple(item for item in judgement.items if item is not None)
        texts.append(templates.answer([catalogue.titles[item] for item in items]))
    return [Sample(tokens, [0.0] * len(tokens)) for tokens in chat_format.responses(texts)]


def corrected(judgement: Judgement, order: Sequence[int], catalogue: Catalogue) -> tuple[int, ...] | None:
    """Return a list without illegal items that meets all conditions, as near to an answer as going through it allows.

    From the first item to the last, an item stays if it is legal and the list can still meet all conditions with it.
    Otherwise the teacher's best item of those takes its place, and the places of items that are missing.

    Args:
        judgement: of an answer.
        order: all items that may be listed, the teacher's best first.
        catalogue: membership.

    Returns:
        k items; None if no list meets the conditions.
    """
    instruction = judgement.instruction
    count, conditions = instruction.item_count, instruction.conditions
    members = [catalogue.membership[catalogue.category_index[condition.category]] for condition in conditions]
    cells = cells_of_items(members, len(catalogue)).tolist()
    left = dict.fromkeys(order)  # a set that keeps its order
    for item in instruction.history:
        left.pop(item, None)
    sizes = [0] * (1 << len(conditions))
    for item in left:
        sizes[cells[item]] += 1
    ranges = ranges_of(conditions, count)
    chosen: list[int] = []
    for place in range(count):
        missing = count - place
        open_now = open_cells(missing, ranges, tuple(min(size, missing) for size in sizes))
        wish = judgement.items[place] if place < len(judgement.items) else None
        if wish not in left or cells[wish] not in open_now:
            wish = next((item for item in left if cells[item] in open_now), None)
        if wish is None:
            return None
        del left[wish]
        sizes[cells[wish]] -= 1
        ranges = ranges_after(ranges, cells[wish])
        chosen.append(wish)
    return tuple(chosen)
