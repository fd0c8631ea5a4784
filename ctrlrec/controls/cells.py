"""Lists that meet several conditions at once, found exactly over cells of category membership (spec section 12).

A condition bounds the number of a list's items in its category. Items that are in the same of the categories asked
about form a cell, at most 2^c of them for c conditions. Which items of a cell are listed changes no condition, so that
the best list takes the best items of each cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from ctrlrec.controls.instruction import Condition
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError

_LARGEST_TABLE = 2**17  # states of the dynamic programme; beyond it, HiGHS is faster and needs less memory


@dataclass(frozen=True, slots=True)
class Cells:
    """The items that may still be listed, by cell.

    Attributes:
        item_count: items still to be listed.
        bounds: fewest and most of them on the side of each condition that is counted.
        members: for each cell the conditions that count its items (a bit each), and its best items, best first. A cell
            holds no more items than the bounds let into a list.
    """

    item_count: int
    bounds: tuple[tuple[int, int], ...]
    members: tuple[tuple[int, np.ndarray], ...]


def cells_of(
    conditions: Sequence[Condition], item_count: int, order: np.ndarray, catalogue: Catalogue, first: int | None = None
) -> Cells | None:
    """Sort the items that may be listed into cells.

    Args:
        conditions: what a list has to meet.
        item_count: k.
        order: (n,) items that may be listed, best first.
        catalogue: membership.
        first: an item that the list begins with; None if it begins with any.

    Returns:
        The cells; None if a condition cannot be met whatever the other items are.
    """
    left = item_count - (first is not None)
    codes = np.zeros(len(catalogue), dtype=np.uint8)
    barred = np.zeros(len(catalogue), dtype=bool)
    if first is not None:
        barred[first] = True
    bounds: list[tuple[int, int]] = []
    for condition in conditions:
        counts = condition.control.allowed(item_count, condition.proportion)
        if not counts:
            return None
        counted, low, high = catalogue.membership[catalogue.category_index[condition.category]], counts[0], counts[-1]
        if item_count - low < high:  # counting the items outside needs fewer states
            counted, low, high = ~counted, item_count - high, item_count - low
        if first is not None and counted[first]:
            low, high = low - 1, high - 1
        if high < 0 or low > left:
            return None
        if high == 0:
            barred |= counted
        elif low > 0 or high < left:
            codes |= counted.astype(np.uint8) << len(bounds)
            bounds.append((max(low, 0), min(high, left)))
    ranked = order[~barred[order]]
    cells = codes[ranked]
    members = []
    for code in range(1 << len(bounds)):
        most = min([left, *(high for place, (_, high) in enumerate(bounds) if code >> place & 1)])
        members.append((code, ranked[np.flatnonzero(cells == code)[:most]]))
    return Cells(left, tuple(bounds), tuple(members))


def best_list(
    conditions: Sequence[Condition],
    item_count: int,
    scores: np.ndarray,
    order: np.ndarray,
    catalogue: Catalogue,
    first: int | None = None,
) -> tuple[int, ...] | None:
    """Return the list with the largest sum of scores among those that meet every condition.

    Args:
        conditions: what the list has to meet.
        item_count: k.
        scores: (n_items,) the teacher's.
        order: items that may be listed, best first.
        catalogue: membership.
        first: an item that the list begins with, whatever its score.

    Returns:
        ``first`` if given, then the other items in the teacher's order; None if no list meets all conditions.
    """
    cells = cells_of(conditions, item_count, order, catalogue, first)
    if cells is None or sum(len(items) for _, items in cells.members) < cells.item_count:
        return None
    states = (cells.item_count + 1) * int(np.prod([high + 1 for _, high in cells.bounds]))
    chosen = _by_table(cells, scores) if states <= _LARGEST_TABLE else _by_highs(cells, scores)
    if chosen is None:
        return None
    return (*(() if first is None else (first,)), *sorted(chosen, key=lambda item: (-scores[item], item)))


def _by_table(cells: Cells, scores: np.ndarray) -> list[int] | None:
    """Solve by a dynamic programme, item by item.

    The table holds the largest sum of scores for every number of items listed, and of items counted by each condition.
    """
    table = np.full((cells.item_count + 1, *(high + 1 for _, high in cells.bounds)), -np.inf)
    table[(0,) * table.ndim] = 0.0
    steps: list[tuple[int, list[int], np.ndarray]] = []
    for code, items in cells.members:
        counts = [1, *(code >> place & 1 for place in range(len(cells.bounds)))]
        before = table[tuple(slice(None, -1) if count else slice(None) for count in counts)]
        after = table[tuple(slice(1, None) if count else slice(None) for count in counts)]
        for item, score in zip(items.tolist(), scores[items].tolist(), strict=True):
            sums = before + score
            better = sums > after
            np.copyto(after, sums, where=better)
            steps.append((item, counts, better))
    ends = table[cells.item_count][tuple(slice(low, None) for low, _ in cells.bounds)]
    end = np.unravel_index(int(ends.argmax()), ends.shape)
    if ends[end] == -np.inf:
        return None
    state = [cells.item_count, *(int(place) + low for place, (low, _) in zip(end, cells.bounds, strict=True))]
    chosen = []
    for item, counts, better in reversed(steps):
        earlier = [have - count for have, count in zip(state, counts, strict=True)]
        if min(earlier) >= 0 and better[tuple(earlier)]:
            chosen.append(item)
            state = earlier
    return chosen


def _by_highs(cells: Cells, scores: np.ndarray) -> list[int] | None:
    """Solve as an integer programme with one variable an item.

    Raises:
        CtrlRecError: if the solver gives up.
    """
    items = np.concatenate([members for _, members in cells.members])
    codes = np.concatenate([np.full(len(members), code) for code, members in cells.members])
    rows = np.stack([np.ones(len(items)), *(codes >> place & 1 for place in range(len(cells.bounds)))])
    low, high = zip((cells.item_count, cells.item_count), *cells.bounds, strict=True)
    found = milp(
        -scores[items],
        constraints=LinearConstraint(rows, low, high),
        integrality=np.ones(len(items)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0.0},
    )
    if found.status == 2:  # infeasible
        return None
    if found.x is None or found.status != 0:
        raise CtrlRecError(f"no best list of {cells.item_count} items: {found.message}; ask for fewer items")
    return items[found.x > 0.5].tolist()
