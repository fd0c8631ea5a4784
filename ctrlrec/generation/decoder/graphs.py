"""The decoder's batch on a GPU: its step is captured once as a CUDA graph, and then launched as a whole.

A step of a small model launches a thousand kernels, and launching takes longer than computing. A graph runs on the
memory and with the shapes that it was captured with. So every step is one of all rows, also of those without an answer,
and the cache has its capacity before.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ctrlrec.generation.decoder.decode import _Batch
from ctrlrec.runtime.faults import is_out_of_memory

log = logging.getLogger(__name__)

_WARM = 2  # steps before the capture, in which libraries load their kernels


def captured(work: Callable[[], None]) -> Callable[[], None]:
    """Return what launches all kernels of ``work`` at once; they are recorded now and run at each call."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


class GraphBatch(_Batch):
    """Answers in the making, whose steps are replays of one graph; if it cannot be captured, of the plain batch."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._warm = 0
        self._replay: Callable[[], None] | None = None

    def step(self) -> None:
        """Write the last token of every answer and give it the next one."""
        if self._replay is None and self._warm == _WARM:
            self._replay = self._capture()
        if self._replay is not None:
            self._replay()
            return
        self._warm += 1
        self._advance(self.rows)

    def _capture(self) -> Callable[[], None]:
        """Return a replay of the step, or the plain step."""
        assert self.mask.shape[-1] == self.capacity
        try:
            return captured(partial(self._advance, self.rows))
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().splitlines()[0]
            log.warning("%-12s a decoding step cannot be captured (%s): kernels are launched one by one", "", reason)
            return super().step
