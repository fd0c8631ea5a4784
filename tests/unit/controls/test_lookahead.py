"""Cells that a list may still name against every list that there is."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlrec.controls import lookahead
from ctrlrec.controls.lookahead import open_cells

Ranges = tuple[tuple[int, int], ...]


@st.composite
def demands(draw: st.DrawFn) -> tuple[int, Ranges, tuple[int, ...]]:
    conditions = draw(st.integers(0, 3))
    left = draw(st.integers(1, 4 if conditions < 3 else 3))
    bounds = st.tuples(st.integers(-1, left), st.integers(0, left + 1)).map(lambda pair: (min(pair), max(pair)))
    ranges = tuple(draw(st.lists(bounds, min_size=conditions, max_size=conditions)))
    sizes = draw(st.lists(st.sampled_from([0, 0, 1, 2, 9]), min_size=2**conditions, max_size=2**conditions))
    return left, ranges, tuple(sizes)


def by_trying(left: int, ranges: Ranges, sizes: tuple[int, ...]) -> tuple[int, ...]:
    found = set()
    for counts in itertools.product(*(range(min(size, left) + 1) for size in sizes)):
        inside = [sum(count for cell, count in enumerate(counts) if cell >> place & 1) for place in range(len(ranges))]
        if sum(counts) == left and all(low <= count <= high for count, (low, high) in zip(inside, ranges, strict=True)):
            found |= {cell for cell, count in enumerate(counts) if count}
    return tuple(sorted(found))


@given(demands())
@settings(max_examples=300)
def test_exactly_the_cells_of_lists_that_exist(demand: tuple[int, Ranges, tuple[int, ...]]) -> None:
    assert open_cells(*demand) == by_trying(*demand)


@given(demands())
@settings(max_examples=20)
def test_the_integer_programme_finds_the_same(demand: tuple[int, Ranges, tuple[int, ...]]) -> None:
    open_cells.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookahead, "_LARGEST_SET", 0)
        assert open_cells(*demand) == by_trying(*demand)
    open_cells.cache_clear()


def test_long_lists_of_four_conditions_are_decided() -> None:
    ranges = ((40, 60), (0, 30), (90, 100), (20, 20))
    assert open_cells(100, ranges, (100,) * 16) == tuple(range(16))
    assert open_cells(100, ranges, (0, 100, 0, *(0,) * 13)) == ()
