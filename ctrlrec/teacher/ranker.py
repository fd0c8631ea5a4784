"""The frozen teacher as a ranker, in process and in batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ctrlrec.errors import CtrlRecError
from ctrlrec.teacher.models import load_teacher
from ctrlrec.teacher.models.base import TeacherModel

_SCORES = 2**25  # held at once: a quarter of a gigabyte in double precision


def top_of(scores: torch.Tensor, k: int, allowed: torch.Tensor | None = None) -> list[list[int]]:
    """Return the best items of each row, best first; lower index first among equals.

    Args:
        scores: (B, n_items); minus infinity excludes an item.
        k: most items to give.
        allowed: bool, (B, n_items) or (n_items,); None allows every item.

    Returns:
        B lists of at most k indices, fewer if fewer are allowed.
    """
    if allowed is not None:
        scores = scores.masked_fill(~allowed.to(scores.device), -torch.inf)
    k = min(k, scores.shape[1])
    if k < 1:
        return [[] for _ in scores]
    values, items = scores.topk(k)
    # topk leaves the order of equals open, and which of them it takes for the last places: sort those rows in full.
    excluded = values == -torch.inf
    equals = (values[:, 1:] == values[:, :-1]) & ~excluded[:, 1:]
    last = values[:, -1:]
    straddles = ((scores == last).sum(1) > (values == last).sum(1)) & ~excluded[:, -1]
    tied = equals.any(1) | straddles
    if tied.any():
        items[tied] = scores[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
    counts = (~excluded).sum(1).tolist()
    return [row[:count] for row, count in zip(items.tolist(), counts, strict=True)]


def ranks_of(scores: torch.Tensor, items: Sequence[Sequence[int | None]]) -> list[list[int | None]]:
    """Return the 0-based ranks of given items among those not excluded: how many items stand before each.

    Args:
        scores: (B, n_items); minus infinity excludes an item.
        items: B lists of indices; None stands for no item.

    Returns:
        B lists; None for None and for excluded items.
    """
    # Counting a row at a time, numpy is several times faster than torch; it does not support bfloat16.
    rows = scores.to("cpu", torch.promote_types(scores.dtype, torch.float32)).numpy()
    return [[_rank(row, item) for item in wanted] for row, wanted in zip(rows, items, strict=True)]


def _rank(row: np.ndarray, item: int | None) -> int | None:
    if item is None or row[item] == -np.inf:
        return None
    return int(np.count_nonzero(row > row[item]) + np.count_nonzero(row[:item] == row[item]))


class Ranker:
    """Ranks the catalogue after a history; ranks are over all items that the history does not hold, best is 0.

    Args:
        model: the teacher; put on the device and in evaluation mode.
        device: where it scores.

    Attributes:
        at_once: histories to score at once: bounds memory, changes no number. :meth:`scores` leaves it to the
            caller.
    """

    def __init__(self, model: TeacherModel, device: torch.device | str = "cpu"):
        self.model, self.device = model.to(device).eval(), torch.device(device)
        self.at_once = max(1, min(1024, _SCORES // model.items))

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> "Ranker":
        """Return the ranker of the teacher that its stage left, in double precision.

        In double precision no rank depends on what else is in a batch.

        Raises:
            CtrlRecError: if the directory holds no usable teacher.
        """
        return cls(load_teacher(directory).double(), device)

    def scores(self, histories: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the scores (B, n_items) after each history; items of the history are minus infinity.

        Args:
            histories: B lists of item indices, oldest first; the newest ``length`` items are read and excluded.

        Raises:
            CtrlRecError: for an empty history, which says nothing to rank by.
        """
        rows = [list(history[-self.model.length :]) for history in histories]
        if not all(rows):
            raise CtrlRecError("the teacher was asked to rank after an empty history; expected at least one item")
        scores = self.model.scores_after(rows)
        places = torch.tensor([place for place, row in enumerate(rows) for _ in row], device=scores.device).long()
        items = torch.tensor([item for row in rows for item in row], device=scores.device).long()
        scores[places, items] = -torch.inf
        return scores

    def top_k(
        self, histories: Sequence[Sequence[int]], k: int, among: Sequence[Sequence[int] | None] | None = None
    ) -> list[list[int]]:
        """Return the best k items after each history; see :func:`top_of`.

        Args:
            histories: B lists of item indices.
            k: most items to give.
            among: for each history the items to choose from; None for all.
        """
        found: list[list[int]] = []
        for part in self._parts(len(histories)):
            scores, allowed = self.scores(histories[part]), None
            if among is not None:
                allowed = torch.ones(scores.shape, dtype=torch.bool)
                for row, items in enumerate(among[part]):
                    if items is not None:
                        allowed[row] = False
                        allowed[row, list(items)] = True
            found += top_of(scores, k, allowed)
        return found

    def ranks(
        self, histories: Sequence[Sequence[int]], items: Sequence[Sequence[int | None]]
    ) -> list[list[int | None]]:
        """Return ranks of given items after each history; see :func:`ranks_of`."""
        found: list[list[int | None]] = []
        for part in self._parts(len(histories)):
            found += ranks_of(self.scores(histories[part]), items[part])
        return found

    def _parts(self, count: int) -> list[slice]:
        return [slice(begin, begin + self.at_once) for begin in range(0, count, self.at_once)]
