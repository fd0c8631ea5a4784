"""Which kind of item a list may name next so that it can still meet all its conditions (spec section 11).

Items that are in the same of the categories asked about form a cell, at most 2^c of them for c conditions.
"""

import functools
import operator
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from ctrlrec.controls.instruction import Condition

_LARGEST_SET = 2**21  # bits of a set of counts; beyond it an integer programme is faster

Range = tuple[int, int]


def ranges_of(conditions: Iterable[Condition], item_count: int) -> tuple[Range, ...]:
    """Return the fewest and most items of a list that each condition counts; more than most if none will do."""
    allowed = [condition.control.allowed(item_count, condition.proportion) for condition in conditions]
    return tuple([(counts[0], counts[-1]) if counts else (1, 0) for counts in allowed])


def ranges_after(ranges: Sequence[Range], cell: int) -> tuple[Range, ...]:
    """Return what is left of the ranges after an item of a cell."""
    return tuple([(low - (cell >> place & 1), high - (cell >> place & 1)) for place, (low, high) in enumerate(ranges)])


def cells_of_items(members: Iterable[np.ndarray], items: int) -> np.ndarray:
    """Return the cell of every item of the catalogue, (items,) uint8.

    Args:
        members: (items,) bool for each condition, at most eight: which items are in its category.
        items: in the catalogue.
    """
    codes = np.zeros(items, np.uint8)
    for place, inside in enumerate(members):
        codes |= inside.astype(np.uint8) << place
    return codes


@functools.lru_cache(maxsize=2**14)
def open_cells(left: int, ranges: tuple[Range, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the cells of which at least one item is in some list that meets all conditions; exact.

    Args:
        left: items still to be listed.
        ranges: fewest and most of them that each condition counts.
        sizes: items available from each of the 2^c cells. Bit j of a cell's number says whether condition j counts it.

    Returns:
        Cells, ascending; empty if no list meets all conditions.
    """
    ranges = tuple((max(low, 0), min(high, left)) for low, high in ranges)
    sizes = tuple(min(size, left) for size in sizes)
    if sum(sizes) < left or left < 1 or any(low > high for low, high in ranges):
        return ()
    if (left + 1) ** (len(ranges) + 1) > _LARGEST_SET:
        return tuple(cell for cell, size in enumerate(sizes) if size and _some_list(left, ranges, sizes, cell))
    return _by_sets(left, ranges, sizes)


def _by_sets(left: int, ranges: Sequence[Range], sizes: Sequence[int]) -> tuple[int, ...]:
    """Solve over sets of counts: (items, items that each condition counts), each set the bits of one integer.

    A state that borrowed from another count while shifting down counts more of something than it has items, and no
    state that is reached from the empty list does.
    """
    base = left + 1
    strides = [base**place for place in range(len(ranges) + 1)]
    *of_conditions, of_items = strides
    inside = (1 << base * of_items) - 1
    steps = [
        of_items + sum(stride for place, stride in enumerate(of_conditions) if cell >> place & 1)
        for cell in range(len(sizes))
    ]
    goal = 1 << left * of_items
    for (low, high), stride in zip(ranges, of_conditions, strict=True):
        goal = _union(goal << count * stride for count in range(low, high + 1))
    # The counts that the cells after each one can complete.
    completed = [goal]
    for step, size in zip(reversed(steps), reversed(sizes), strict=True):
        completed.append(_union(completed[-1] >> count * step for count in range(size + 1)))
    reached, found = 1, []
    for cell, (step, size) in enumerate(zip(steps, sizes, strict=True)):
        more = _union(reached << count * step & inside for count in range(1, size + 1))
        if more & completed[len(sizes) - 1 - cell]:
            found.append(cell)
        reached |= more
    return tuple(found)


def _union(sets: Iterable[int]) -> int:
    return functools.reduce(operator.or_, sets, 0)


def _some_list(left: int, ranges: Sequence[Range], sizes: Sequence[int], cell: int) -> bool:
    """Return whether some list that meets all conditions has an item of the cell, by an integer programme."""
    codes = np.arange(len(sizes))
    rows = np.stack([np.ones(len(sizes)), *(codes >> place & 1 for place in range(len(ranges)))])
    low, high = zip((left, left), *ranges, strict=True)
    found = milp(
        np.zeros(len(sizes)),
        constraints=LinearConstraint(rows, low, high),
        integrality=np.ones(len(sizes)),
        bounds=Bounds((codes == cell).astype(int), sizes),
    )
    return found.x is not None
