"""Which continuations of a spelt title lead to an item that may stand: counts below the nodes of a trie."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ctrlrec.controls.lookahead import cells_of_items
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.generation.lists.trie import STOP, Trie
from ctrlrec.lm.spelling import Spelling

_KEPT = 128  # views of one form; each holds four bytes a node, of which there are at most two an item
_WIDE = 64  # children of a node from which on its tokens are kept: finding those of fewer takes microseconds


class View:
    """A set of items as the nodes of a trie see it.

    Attributes:
        trie: as given.
        below: (nodes,) number of the set's items below each node.

    Args:
        trie: over spelt titles.
        allowed: (items of the catalogue,) bool; None for all items of the trie.
    """

    def __init__(self, trie: Trie, allowed: np.ndarray | None = None):
        self.trie = trie
        self.below = trie.sizes
        self._below: np.ndarray | None = None
        if allowed is not None:
            sums = np.concatenate([[0], np.cumsum(allowed[trie.items])]).astype(np.int32)
            self._below = sums[trie.high] - sums[trie.low]
            self.below = self._below.data
        self._wide: dict[int, tuple[np.ndarray, list[int]]] = {}

    def options(self, node: int, closed: Sequence[int], stop: int) -> np.ndarray:
        """Return the tokens that may come after a node, (n,).

        Args:
            node: with children.
            closed: children below which every item of the set is used up.
            stop: the token that comes after a title that ends at the node.
        """
        trie, begin, end = self.trie, self.trie.begin[node], self.trie.end[node]
        if end - begin > _WIDE:
            tokens = self._of_many(begin, end, closed)
        elif self._below is not None:
            some = self._below[begin:end] > 0
            for child in closed:
                some[child - begin] = False
            tokens = trie.tokens[begin:end][some]
        else:
            tokens = _without(trie.tokens[begin:end], [child - begin for child in closed])
        if trie.token_at[begin] == STOP and self.below[begin] and begin not in closed:
            tokens = tokens.copy()
            tokens[0] = stop
        return tokens

    def _of_many(self, begin: int, end: int, closed: Sequence[int]) -> np.ndarray:
        """Return the tokens to a wide node's open children; those open before any item is used are cached."""
        found = self._wide.get(begin)
        if found is None:
            children = np.arange(begin, end)
            if self._below is not None:
                children = children[self._below[begin:end] > 0]
            found = self._wide[begin] = self.trie.tokens[children], children.tolist()
        tokens, nodes = found
        return _without(tokens, [bisect_left(nodes, child) for child in closed])


def _without(tokens: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """Return the tokens but those at some places; the same array if there are none."""
    if not places:
        return tokens
    starts = [0, *(place + 1 for place in sorted(places))]
    stops = [*sorted(places), len(tokens)]
    return np.concatenate([tokens[start:stop] for start, stop in zip(starts, stops, strict=True)])


class Form:
    """A way to write lists of some items: their spelling, the tries of their titles, and sets of them.

    A set is named by ``share``, the most tokens that a title may have, by categories, at most eight of them, and by the
    cells of these that its items are from. A cell is a number whose bit j says whether an item is in category j.

    Attributes:
        spelling: the parts, of the whole catalogue.
        tries: of items that another one follows, and of items at the end; one object if they are spelt alike.
        view: :meth:`_view`, the latest ones kept; likewise ``share``, ``usable``, ``cells`` and ``sizes``.

    Args:
        spelling: of the catalogue.
        catalogue: membership.
        items: those that may stand; None for all.
    """

    def __init__(self, spelling: Spelling, catalogue: Catalogue, items: Sequence[int] | None = None):
        self.spelling, self.catalogue = spelling, catalogue
        own = range(len(catalogue)) if items is None else items
        self._own = np.zeros(len(catalogue), bool)
        self._own[np.asarray(own)] = True
        rows = [spelling.inner] if spelling.inner is spelling.last else [spelling.inner, spelling.last]
        tries = [Trie([part[item] for item in own], own) for part in rows]
        self.tries = (tries[0], tries[-1])
        self._longest = max(int(spelling.lengths[self._own].max(initial=0)), 1)
        self.share = lru_cache(_KEPT)(self._share)
        self.usable = lru_cache(_KEPT)(self._usable)
        self.view = lru_cache(_KEPT)(self._view)
        self.cells = lru_cache(_KEPT)(self._cells)
        self.sizes = lru_cache(_KEPT)(self._sizes)

    def _share(self, count: int, limit: int | None) -> int | None:
        """Return the most tokens of a title with which every list of ``count`` items fits into an answer.

        Args:
            count: items of the list.
            limit: tokens of an answer; None for no limit.

        Returns:
            None if every list fits whatever its titles are.
        """
        if limit is None:
            return None
        room = limit - self.spelling.around(count)
        return None if count * self._longest <= room else max(room, 0) // count

    def stop(self, line: int, count: int) -> int:
        """Return the token after the title of a line: the first of the next separator, or the end of the answer."""
        return self.spelling.separators[line + 1][0] if line < count else self.spelling.end

    def clash(self) -> tuple[int, int] | None:
        """Return two items of which the second begins like the first followed by a list; None without such."""
        starts = {part[0] for part in self.spelling.separators if part}
        for trie, stops in zip(self.tries, (starts, {self.spelling.end}), strict=True):
            for node in np.flatnonzero(trie.tokens[1:] == STOP) + 1:
                for stop in stops:
                    child, ends = trie.child(trie.parent[node], stop)
                    if not ends:
                        return int(trie.items[trie.low[node]]), int(trie.items[trie.low[child]])
        return None

    def _usable(self, share: int | None) -> bytes:
        """Return whether each item of the catalogue may stand, one byte each."""
        return (self._own if share is None else self._own & (self.spelling.lengths <= share)).tobytes()

    def _cells(self, categories: tuple[int, ...]) -> bytes:
        """Return the cell of every item of the catalogue, one byte each."""
        members = [self.catalogue.membership[row] for row in categories]
        return cells_of_items(members, len(self.catalogue)).tobytes()

    def _sizes(self, share: int | None, categories: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of items in each cell."""
        cells = np.frombuffer(self.cells(categories), np.uint8)
        usable = np.frombuffer(self.usable(share), bool)
        return tuple(np.bincount(cells[usable], minlength=1 << len(categories)).tolist())

    def _view(
        self, last: bool, share: int | None, categories: tuple[int, ...] = (), cells: tuple[int, ...] = (0,)
    ) -> View:
        """Return the view of a set, for titles at the end of a list or before it."""
        if last and self.tries[0] is self.tries[1]:
            return self.view(False, share, categories, cells)
        if share is None and not categories:
            return View(self.tries[last])
        inside = np.isin(np.frombuffer(self.cells(categories), np.uint8), cells)
        return View(self.tries[last], inside & np.frombuffer(self.usable(share), bool))
