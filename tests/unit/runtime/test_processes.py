"""How the processes of a run share work and stop together."""

import pytest
from side_by_side import side_by_side

from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime import processes


def fails(message: str) -> None:
    raise ValueError(message)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_are_joined_in_order(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Of 1 or 2 questions some of three processes have none."""
    for size in range(6):
        whole = list(range(size))
        joined = side_by_side(monkeypatch, lambda _, whole=whole: processes.joined(processes.share(whole)), count)
        assert joined == [whole] * count


def test_a_failure_of_one_stops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[int] = []

    def work(rank: int) -> None:
        with processes.together():
            pass
        passed.append(rank)
        with processes.together():
            if rank == 1:
                fails("own words")
        passed.append(rank)

    first, second, third = side_by_side(monkeypatch, work, 3)
    assert sorted(passed) == [0, 1, 2]
    assert isinstance(second, ValueError) and str(second) == "own words"
    for rank, error in ((0, first), (2, third)):
        assert isinstance(error, CtrlRecError)
        assert str(error) == f"process {rank} stopped: process 1 failed and says why"


def test_what_process_0_does_for_all_is_as_in_a_run_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may itself share and gather; the others take no part in that."""
    worked: list[int] = []

    def alone(rank: int) -> list[int]:
        worked.append(rank)
        with processes.together():
            mine = processes.share([4, 5, 6])
        processes.stop_where(False, lambda: pytest.fail("nothing is bad"))
        return processes.once(lambda: processes.joined(mine) + processes.gather(rank))

    def work(rank: int) -> tuple[list[int], list[int]]:
        return processes.once(lambda: alone(rank)), processes.share([1, 2, 3])

    assert side_by_side(monkeypatch, work) == [([4, 5, 6, 0], [1, 3]), ([4, 5, 6, 0], [2])]
    assert worked == [0]


def test_a_failure_of_process_0_stops_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(rank: int) -> list[int]:
        with pytest.raises(ValueError, match="broken") if rank == 0 else pytest.raises(CtrlRecError, match="process 0"):
            processes.once(lambda: processes.once(lambda: fails("broken")))
        return processes.gather(rank)  # nobody is left in what failed

    assert side_by_side(monkeypatch, work) == [[0, 1], [0, 1]]
