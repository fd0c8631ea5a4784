"""Several processes of one run as threads of the test's own process."""

import threading
from collections.abc import Callable
from copy import deepcopy
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from pytorch_lightning.utilities import rank_zero_only

from ctrlrec.runtime import processes


def side_by_side(patch: pytest.MonkeyPatch, work: Callable[[int], Any], count: int = 2) -> list[Any]:
    """Return what each rank's ``work(rank)`` gave or raised.

    They meet in ``all_gather_object`` alone. Who waits there for a rank that has ended gets an error, as from gloo.
    """
    here, ended = threading.local(), set[int]()
    sent = [[SimpleQueue[Any]() for _ in range(count)] for _ in range(count)]  # from, to
    results: list[Any] = [None] * count

    def received(source: int) -> Any:
        while True:
            over = source in ended  # before looking: what it sent, it sent before its end
            try:
                return sent[source][here.rank].get(timeout=0.02)
            except Empty:
                if over:
                    raise RuntimeError(f"rank {here.rank} waits for rank {source}, which has ended") from None

    def all_gather_object(values: list[Any], value: Any) -> None:
        for target in range(count):
            sent[here.rank][target].put(deepcopy(value))
        values[:] = [received(source) for source in range(count)]

    def one(rank: int) -> None:
        here.rank = rank
        try:
            results[rank] = work(rank)
        except Exception as error:
            results[rank] = error
        ended.add(rank)

    patch.setattr("torch.distributed.all_gather_object", all_gather_object)
    patch.setattr(processes, "count", lambda: count)
    patch.setattr(processes, "rank", lambda: here.rank)
    patch.setattr(rank_zero_only, "rank", 0, raising=False)  # loggers set it in every thread: undone after the test
    threads = [threading.Thread(target=one, args=(rank,), daemon=True) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results
