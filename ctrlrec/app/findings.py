"""Findings of ``ctrlrec audit`` and ``ctrlrec verify``, and how they are printed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SHOWN = 20  # findings of a check that are printed


@dataclass(frozen=True)
class Check:
    """A check of some files, and what is wrong with them.

    Attributes:
        name: of what was looked at.
        detail: how much was looked at, or why it could not be.
        found: what is wrong, one line each when printed.
        done: whether it was looked at.
    """

    name: str
    detail: str
    found: Sequence[object] = ()
    done: bool = True


def show(checks: Iterable[Check], word: str) -> int:
    """Print one line a check, and below it what is wrong.

    Args:
        checks: in the order in which they are printed; each is printed as soon as it is there.
        word: for a check that found something, such as LEAK.

    Returns:
        The number of things that are wrong.
    """
    count = 0
    for check in checks:
        state = word if check.found else "ok" if check.done else "-"
        detail = check.detail if check.done else f"not checked, {check.detail}"
        print(f"{state:5}{check.name}: {detail}", flush=True)
        for line in check.found[:_SHOWN]:
            print(f"     {line}")
        if len(check.found) > _SHOWN:
            print(f"     ... and {len(check.found) - _SHOWN} more")
        count += len(check.found)
    return count
