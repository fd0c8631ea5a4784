"""The state of a list while it is written: the question, and which items are still allowed."""

from collections.abc import Sequence

import numpy as np

from ctrlrec.controls.instruction import Condition
from ctrlrec.controls.lookahead import Range, open_cells, ranges_after
from ctrlrec.generation.lists.views import Form, View


class Question:
    """The demands of one instruction, with the cache that its states share.

    Attributes:
        form: how the list is written.
        count: items of the list.
        share: most tokens of a title, so that every list fits into an answer; None for no bound.
        categories: rows of the membership that conditions are about, in their order.
        cells: of every item of the catalogue; empty without conditions.
    """

    def __init__(self, form: Form, count: int, limit: int | None, conditions: Sequence[Condition]):
        self.form, self.count, self.share = form, count, form.share(count, limit)
        index = form.catalogue.category_index
        self.categories = tuple([index[condition.category] for condition in conditions])
        self.cells = form.cells(self.categories) if conditions else b""

    def left(self, barred: Sequence[int]) -> tuple[int, ...]:
        """Return how many items of each cell may stand in the list if some are barred."""
        sizes = list(self.form.sizes(self.share, self.categories))
        usable = self.form.usable(self.share)
        for item in barred:
            if usable[item]:
                sizes[self.cells[item] if self.cells else 0] -= 1
        return tuple(sizes)


class Written:
    """A list so far; a value.

    Attributes:
        question: what is asked.
        line: number of the title that is written next, from 1.
        barred: items of the history and of the list, if neither may stand.
        closed: children of a node below which they leave nothing of the view.
        ranges: fewest and most of the items left that each condition counts.
        sizes: items left in each cell.
        stop: the token after the title.
        view: the items that may stand on this line, ``barred`` aside.
    """

    __slots__ = ("_openings", "barred", "closed", "line", "question", "ranges", "sizes", "stop", "view")

    def __init__(
        self,
        question: Question,
        line: int,
        barred: tuple[int, ...],
        ranges: tuple[Range, ...],
        sizes: tuple[int, ...],
        before: "Written | None" = None,
    ):
        self.question, self.line, self.barred, self.ranges, self.sizes = question, line, barred, ranges, sizes
        left = question.count - line + 1
        cells = open_cells(left, ranges, tuple([min(size, left) for size in sizes])) if ranges else (0,)
        form, last = question.form, line == question.count
        self.stop = form.stop(line, question.count)
        if before is not None and not ranges and not (last and form.tries[0] is not form.tries[1]):
            self.view: View = before.view
        else:
            self.view = form.view(last, question.share, question.categories, cells)
        self.closed: dict[int, tuple[int, ...]] = {}
        self._openings: np.ndarray | None = None
        if before is None or before.view is not self.view:
            self._close(barred)
            return
        self.closed = dict(before.closed)
        self._close(barred[len(before.barred) :])
        if self.closed.get(0) is before.closed.get(0):
            self._openings = before._openings

    def _close(self, items: Sequence[int]) -> None:
        """Close the nodes below which nothing is left without some items."""
        trie, below, closed = self.view.trie, self.view.below, self.closed
        for item in items:
            node = trie.leaf_of.get(item, 0)  # 0 for an item that is not a candidate
            while node and below[node]:
                above = trie.parent[node]
                siblings = closed[above] = (*closed.get(above, ()), node)
                if sum([below[sibling] for sibling in siblings]) < below[above]:
                    break
                node = above

    def and_then(self, item: int, repeats: bool) -> "Written":
        """Return the list with one more item."""
        barred = self.barred if repeats else (*self.barred, item)
        ranges, sizes = self.ranges, self.sizes
        if self.question.cells:
            cell = self.question.cells[item]
            ranges = ranges_after(ranges, cell)
            sizes = (*sizes[:cell], sizes[cell] - 1, *sizes[cell + 1 :])
        return Written(self.question, self.line + 1, barred, ranges, sizes, self)

    def options(self, node: int) -> np.ndarray:
        """Return the tokens that may come after a node, (n,)."""
        if node:
            return self.view.options(node, self.closed.get(node, ()), self.stop)
        if self._openings is None:  # many tokens, and most lines leave them as they were
            self._openings = self.view.options(0, self.closed.get(0, ()), self.stop)
        return self._openings
