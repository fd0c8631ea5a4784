"""The prefix tree against the rows that it is made of."""

from hypothesis import given
from hypothesis import strategies as st

from ctrlrec.generation.lists.trie import STOP, Trie

ROWS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=30, unique=True)


def check(trie: Trie, rows: list[tuple[int, ...]], node: int, prefix: tuple[int, ...]) -> int:
    """Compare a node and all below it with the rows that begin with its tokens; return the leaves found."""
    below = [item for item, row in enumerate(rows) if (*row, STOP)[: len(prefix)] == prefix]
    assert sorted(trie.items[trie.low[node] : trie.high[node]].tolist()) == below
    assert trie.sizes[node] == len(below)
    if len(below) == 1:
        row, rest = trie.rest(node)
        assert trie.items[row] == below[0] and trie.leaf_of[below[0]] == node
        assert tuple(token for token in prefix if token != STOP) + rest == rows[below[0]]
        return 1
    span = range(trie.begin[node], trie.end[node])
    children = dict(zip(trie.tokens[span.start : span.stop].tolist(), span, strict=True))
    assert list(children) == sorted({(*rows[item], STOP)[len(prefix)] for item in below})
    assert all(trie.parent[child] == node for child in children.values())
    assert all(trie.child(node, token) == (child, False) for token, child in children.items() if token != STOP)
    assert STOP not in children or trie.child(node, 9) == (children[STOP], True)
    return sum(check(trie, rows, child, (*prefix, token)) for token, child in children.items())


@given(ROWS)
def test_nodes_cover_the_rows_that_begin_with_their_tokens(rows: list[tuple[int, ...]]) -> None:
    assert check(Trie(rows, range(len(rows))), rows, 0, ()) == len(rows)


def test_items_may_be_any_numbers() -> None:
    trie = Trie([(1, 2), (1,)], [7, 3])
    assert trie.items.tolist() == [3, 7]
    assert [trie.leaf_of[item] for item in (3, 7)] == [2, 3]
