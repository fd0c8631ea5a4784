import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from teacher_worlds import OPTIONS

from ctrlrec.errors import CtrlRecError
from ctrlrec.teacher.models import make_teacher
from ctrlrec.teacher.ranker import Ranker, ranks_of, top_of

ITEMS, LENGTH = 30, 5


@pytest.fixture(params=OPTIONS)
def ranker(request, settings) -> Ranker:
    torch.manual_seed(0)
    return Ranker(make_teacher(settings(model=request.param, dropout=0.5), ITEMS, LENGTH).double())


def brute_force(row: list[float]) -> list[int]:
    """Items by falling score, lower index first among equals, excluded ones left out."""
    scores = np.asarray(row)
    return [int(item) for item in np.argsort(-scores, kind="stable") if scores[item] > -np.inf]


# Few values, so that ties are the rule; minus infinity excludes.
rows_of_scores = st.integers(1, 12).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0]), min_size=width, max_size=width),
        min_size=1,
        max_size=5,
    )
)


@given(rows_of_scores, st.integers(0, 14), st.randoms())
@trials(max_examples=300, deadline=None)
def test_top_of_equals_a_stable_sort(rows, k, random):
    scores = torch.tensor(rows)
    assert top_of(scores, k) == [brute_force(row)[:k] for row in rows]
    allowed = torch.tensor([[random.random() < 0.6 for _ in row] for row in rows])
    masked = scores.masked_fill(~allowed, -torch.inf)
    assert top_of(scores, k, allowed) == [brute_force(row)[:k] for row in masked.tolist()]
    masked = scores.masked_fill(~allowed[0], -torch.inf)
    assert top_of(scores, k, allowed[0]) == [brute_force(row)[:k] for row in masked.tolist()]


@given(rows_of_scores)
@trials(max_examples=200, deadline=None)
def test_ranks_of_equals_the_place_in_a_stable_sort(rows):
    items = [[None, *range(len(row)), None] for row in rows]
    expected = []
    for row in rows:
        order = brute_force(row)
        expected.append([None, *(order.index(i) if i in order else None for i in range(len(row))), None])
    for dtype in (torch.float64, torch.float32, torch.bfloat16):  # all hold these few values exactly
        assert ranks_of(torch.tensor(rows, dtype=dtype), items) == expected


def test_top_k_on_many_ties_among_many_items():
    scores = torch.randint(0, 4, (20, 3000), generator=torch.Generator().manual_seed(0)).float()
    assert top_of(scores, 50) == [brute_force(row)[:50] for row in scores.tolist()]


def test_ranks_and_top_k_agree(ranker):
    histories = [[1, 2, 3], [4], [9, 8, 7, 6, 5]]
    best = ranker.top_k(histories, ITEMS)
    assert [len(row) for row in best] == [ITEMS - 3, ITEMS - 1, ITEMS - 5]
    assert ranker.ranks(histories, best) == [list(range(len(row))) for row in best]


def test_ranking_a_few_at_once_changes_no_rank(ranker, monkeypatch):
    histories = [[item, item + 1] for item in range(7)]
    items = [[0, None, 9, 20]] * 7
    whole = ranker.ranks(histories, items)
    monkeypatch.setattr(ranker, "at_once", 3)
    assert ranker.ranks(histories, items) == whole


def test_items_of_the_history_are_excluded(ranker):
    histories = [[1, 2, 3], [4, 4]]
    scores = ranker.scores(histories)
    assert scores.shape == (2, ITEMS)
    assert [torch.isneginf(row).nonzero()[:, 0].tolist() for row in scores] == [[1, 2, 3], [4]]
    assert ranker.ranks(histories, [[1, None, 2], [4]]) == [[None, None, None], [None]]


def test_only_the_newest_items_are_read(ranker):
    long, short = [20, 21, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5]
    torch.testing.assert_close(ranker.scores([long]), ranker.scores([short]))


def test_a_batch_ranks_as_each_alone(ranker):
    histories = [list(range(start, start + 1 + start % LENGTH)) for start in range(20)]
    together = ranker.top_k(histories, ITEMS)
    assert together == [ranker.top_k([history], ITEMS)[0] for history in histories]
    assert together == ranker.top_k(histories[::-1], ITEMS)[::-1]


def test_numpy_histories_are_welcome(ranker):
    assert ranker.top_k([np.array([1, 2], np.int32)], 3) == ranker.top_k([[1, 2]], 3)


def test_no_histories_no_ranks(ranker):
    assert ranker.scores([]).shape == (0, ITEMS)
    assert ranker.top_k([], 3) == [] and ranker.ranks([], []) == []


def test_an_empty_history_is_refused(ranker):
    with pytest.raises(CtrlRecError, match="empty history"):
        ranker.scores([[1], []])


def test_ranking_leaves_no_gradient_and_no_dropout(ranker):
    scores = ranker.scores([[1, 2]])
    assert not scores.requires_grad
    assert torch.equal(scores, ranker.scores([[1, 2]]))
    scores[0, 0] = 1.0  # an ordinary tensor: callers may write into it
