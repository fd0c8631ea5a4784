"""A prefix tree over rows of token ids, as arrays: children stand side by side, a node covers a run of sorted rows."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

STOP = -1  # the token of a child that stands for the end of a row


class Trie:
    """The common beginnings of several rows.

    A node with one row has no children, because the rest of its row is known. Rows are sorted, so that those below a
    node are the ones from ``low`` to ``high``. How many rows of a set are below it follows from a running sum.

    Attributes:
        items: (n,) what each sorted row stands for.
        tokens: (nodes,) the token that leads to a node, ascending among children; ``STOP`` for the end of a row.
        token_at: the same, for single look-ups.
        low: (nodes,) first row below a node; ``high`` the one after the last.
        begin: (nodes,) first child; ``end`` the one after the last.
        parent: of each node; -1 of the root, node 0.
        depth: tokens before a node, ``STOP`` not counted.
        sizes: number of rows below each node.
        leaf_of: the node at which the row of each item is alone.

    Args:
        rows: token ids, no two rows alike.
        items: numbers of the rows.
    """

    def __init__(self, rows: Sequence[Sequence[int]], items: Sequence[int]):
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        table = np.full((len(rows), int(lengths.max(initial=0)) + 1), STOP, np.int32)
        table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(
            [np.asarray(row, np.int32) for row in rows]
        )
        order = np.lexsort(table.T[::-1])
        table = table[order]
        self.items = np.asarray(items)[order]
        self._rest = [tuple(rows[place]) for place in order.tolist()]
        self._build(table)

    def __len__(self) -> int:
        return len(self.items)

    def _build(self, table: np.ndarray) -> None:
        """Add nodes level by level; only nodes with several rows have children."""
        count = len(table)
        starts = np.zeros(count + 1, bool)  # where the rows of another node begin
        starts[[0, count]] = True
        tokens, low, high = [np.array([STOP])], [np.array([0])], [np.array([count])]
        begin, end, parent, depth = [], [], [np.array([-1])], [np.array([0])]
        made, level = 1, 0
        while True:
            wide = high[-1] - low[-1] > 1
            inside = np.zeros(count + 1, np.int64)
            inside[low[-1][wide]] += 1
            inside[high[-1][wide]] -= 1
            if level < table.shape[1]:
                starts[1:count] |= table[1:, level] != table[:-1, level]
            every = np.flatnonzero(starts)
            here = every[np.cumsum(inside)[every] > 0]
            first, last = np.searchsorted(here, low[-1]), np.searchsorted(here, high[-1])
            begin.append(made + np.where(wide, first, 0))
            end.append(made + np.where(wide, last, 0))
            if not len(here):
                break
            owners = made - len(low[-1]) + np.repeat(np.flatnonzero(wide), (last - first)[wide])
            tokens.append(table[here, level])
            low.append(here)
            high.append(every[np.searchsorted(every, here) + 1])
            parent.append(owners)
            depth.append(np.where(tokens[-1] == STOP, level, level + 1))
            made += len(here)
            level += 1
        parts = (tokens, low, high, begin, end, parent, depth)
        arrays = [np.ascontiguousarray(np.concatenate(part), np.int32) for part in parts]
        self.tokens, self.low, self.high = arrays[:3]
        # Views of memory give single numbers faster than arrays, and keep them closer together than lists.
        self.token_at, self._first = self.tokens.data, self.low.data
        self.begin, self.end, self.parent, self.depth = (array.data for array in arrays[3:])
        self.sizes = (self.high - self.low).data
        alone = np.flatnonzero(self.high - self.low == 1)
        self.leaf_of = dict(zip(self.items[self.low[alone]].tolist(), alone.tolist(), strict=True))

    def child(self, node: int, token: int) -> tuple[int, bool]:
        """Return the child that a token leads to, and False; without such the one at which a row ends, and True."""
        begin, end = self.begin[node], self.end[node]
        child = bisect_left(self.token_at, token, begin, end)
        if child < end and self.token_at[child] == token:
            return child, False
        return begin, True

    def rest(self, node: int) -> tuple[int, tuple[int, ...]]:
        """Return the one sorted row below a node, and the tokens of it that follow."""
        row = self._first[node]
        return row, self._rest[row][self.depth[node] :]
