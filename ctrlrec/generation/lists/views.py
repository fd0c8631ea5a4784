"""Which continuations of a spelt title lead to an item that may stand: counts below the nodes of a trie."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.generation.lists.trie import STOP, Trie
from ctrlrec.lm.spelling import Spelling

_KEPT = 128  # views of one form; each holds five bytes an item


class Options(NamedTuple):
    """The children of a node below which some item may stand.

    Attributes:
        tokens: (c,) that lead to them, ascending; ``STOP`` is the first if the title may end here.
        nodes: (c,) the children.
        stops: whether the title may end here.
    """

    tokens: np.ndarray
    nodes: np.ndarray
    stops: bool

    def but(self, closed: Sequence[int], stop: int) -> np.ndarray:
        """Return the tokens without those to some children, and another one in place of ``STOP``."""
        keep = np.ones(len(self.tokens), bool)
        keep[np.searchsorted(self.nodes, closed)] = False
        tokens = self.tokens[keep]
        if len(tokens) and tokens[0] == STOP:
            tokens[0] = stop
        return tokens


class View:
    """A set of items as the nodes of a trie see it.

    Attributes:
        trie: as given.
        holds_all: whether all items of the trie are of the set.
        stopped: tokens of nodes at which a title may end, kept for later look-ups.

    Args:
        trie: over spelt titles.
        allowed: (items of the catalogue,) bool; None for all items of the trie.
    """

    def __init__(self, trie: Trie, allowed: np.ndarray | None = None):
        self.trie = trie
        self.holds_all = allowed is None
        self._inside = b""
        self._sums: np.ndarray | None = None
        if allowed is not None:
            inside = allowed[trie.items]
            self._inside = inside.astype(np.uint8).tobytes()
            self._sums = np.concatenate([[0], np.cumsum(inside)]).astype(np.int32)
        self._below: dict[int, int] = {}
        self._options: dict[int, Options] = {}
        self.stopped: dict[Any, np.ndarray] = {}

    def options(self, node: int) -> Options:
        """Return the continuations of a node."""
        found = self._options.get(node)
        if found is None:
            begin, end = self.trie.begin[node], self.trie.end[node]
            nodes = np.arange(begin, end)
            if self._sums is not None:
                some = self._sums[self.trie.high[begin:end]] > self._sums[self.trie.low[begin:end]]
                nodes = nodes[some]
            tokens = self.trie.tokens[nodes]
            found = self._options[node] = Options(tokens, nodes, bool(len(tokens)) and tokens[0] == STOP)
        return found

    def closed(self, used: Mapping[int, Any], touched: tuple[int, ...]) -> tuple[int, ...]:
        """Return those of some nodes below which every item of the set is used up.

        Args:
            used: sorted rows that may not stand any more, by the nodes above them; not read if the set holds all items.
            touched: nodes above such rows; if the set holds all items, those that have no others.
        """
        if self.holds_all:
            return touched
        inside = self._inside
        return tuple([node for node in touched if 0 < self._count(node) == sum([inside[row] for row in used[node]])])

    def _count(self, node: int) -> int:
        """Return the number of the set's items below a node."""
        found = self._below.get(node)
        if found is None:
            assert self._sums is not None
            low, high = self.trie.low[node], self.trie.high[node]
            found = self._below[node] = int(self._sums[high] - self._sums[low])
        return found


class Form:
    """A way to write lists of some items: their spelling, the tries of their titles, and sets of them.

    A set is named by ``share``, the most tokens that a title may have, by categories, at most eight of them, and by the
    cells of these that its items are from. A cell is a number whose bit j says whether an item is in category j.

    Attributes:
        spelling: the parts, of the whole catalogue.
        tries: of items that another one follows, and of items at the end; one object if they are spelt alike.
        view: :meth:`_view`, the latest ones kept; likewise ``cells`` and ``sizes``.

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
        self.view = lru_cache(_KEPT)(self._view)
        self.cells = lru_cache(_KEPT)(self._cells)
        self.sizes = lru_cache(_KEPT)(self._sizes)

    def share(self, count: int, limit: int | None) -> int | None:
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
                for token, child in trie.children(trie.parent[node]).items():
                    if token in stops:
                        return int(trie.items[trie.low[node]]), int(trie.items[trie.low[child]])
        return None

    def holds(self, item: int, share: int | None) -> bool:
        """Return whether an item may stand."""
        return bool(self._own[item]) and (share is None or int(self.spelling.lengths[item]) <= share)

    def _cells(self, categories: tuple[int, ...]) -> bytes:
        """Return the cell of every item of the catalogue, one byte each."""
        codes = np.zeros(len(self.catalogue), np.uint8)
        for place, row in enumerate(categories):
            codes |= self.catalogue.membership[row].astype(np.uint8) << place
        return codes.tobytes()

    def _sizes(self, share: int | None, categories: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of items in each cell."""
        cells = np.frombuffer(self.cells(categories), np.uint8)
        return tuple(np.bincount(cells[self._usable(share)], minlength=1 << len(categories)).tolist())

    def _view(
        self, last: bool, share: int | None, categories: tuple[int, ...] = (), cells: tuple[int, ...] = (0,)
    ) -> View:
        """Return the view of a set, for titles at the end of a list or before it."""
        if last and self.tries[0] is self.tries[1]:
            return self.view(False, share, categories, cells)
        if share is None and not categories:
            return View(self.tries[last])
        inside = np.isin(np.frombuffer(self.cells(categories), np.uint8), cells)
        return View(self.tries[last], inside & self._usable(share))

    def _usable(self, share: int | None) -> np.ndarray:
        return self._own if share is None else self._own & (self.spelling.lengths <= share)
