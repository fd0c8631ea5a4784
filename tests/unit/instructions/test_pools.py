import numpy as np
import pytest

from ctrlrec.instructions.pools import Pool

NAMED = np.array([0, 3, 4, 5, 11, 19])


@pytest.mark.parametrize("named", [NAMED, NAMED[:0], np.arange(20)], ids=["some", "none", "all"])
@pytest.mark.parametrize("others", [False, True])
def test_draws_what_numpy_draws_from_the_items_written_out(named: np.ndarray, others: bool) -> None:
    pool = Pool(named, others_of=20 if others else None)
    items = np.setdiff1d(np.arange(20), named) if others else named
    assert len(pool) == len(items)
    for but in (None, *items.tolist()):
        left = items[items != but] if but is not None else items
        for size in (0, 1, 3, 30):
            expected = np.random.default_rng(size).choice(left, size=min(size, len(left)), replace=False)
            assert pool.draw(np.random.default_rng(size), size, but).tolist() == expected.tolist()


def test_a_draw_from_a_large_catalogue_names_no_item_twice_and_none_that_is_left_out() -> None:
    pool = Pool(np.arange(0, 10**6, 7), others_of=10**6)
    drawn = pool.draw(np.random.default_rng(0), 5000, but=8)
    assert len(set(drawn.tolist())) == 5000
    assert drawn.min() >= 1 and drawn.max() < 10**6
    assert not (drawn % 7 == 0).any() and 8 not in drawn
