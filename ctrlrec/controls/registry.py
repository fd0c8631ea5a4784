"""The registered controls, by kind, by task and by family."""

import functools
import os
from collections.abc import Iterable

from ctrlrec.config.choices import PLUGINS, Choices
from ctrlrec.controls.base import Control
from ctrlrec.errors import CtrlRecError

# Tasks without a control of their own: I0, I3, I4, and blends of several conditions (spec section 12).
SEQUENTIAL, SEARCH, CHAT, BLEND = "sequential", "search", "chat", "blend"

PAPER_FAMILIES = (SEQUENTIAL, "category", "proportion", SEARCH, CHAT)  # Table 7

CONTROLS: Choices[Control] = Choices("controls.kinds", "CONTROL")
_OWN_STREAM = {SEQUENTIAL: 0, SEARCH: 6, CHAT: 7, BLEND: 8}


def controls() -> list[Control]:
    """Return every control in the order of settings and tables."""
    return sorted(CONTROLS.values(), key=lambda control: (control.order, control.task))


def control_of(task: str) -> Control | None:
    """Return the control that a task asks for; None for a task without one.

    Raises:
        CtrlRecError: for a task that no control and no other kind of instruction has.
    """
    if task in _OWN_STREAM:
        return None
    found = _by_task().get(task)
    if found is None:
        raise CtrlRecError(f"task '{task}' is unknown; expected one of {', '.join([*_OWN_STREAM, *_by_task()])}")
    return found


def kind_of(control: Control) -> str:
    """Return the kind of a registered control, its name in the files of spec section 12."""
    return _kinds_under(os.environ.get(PLUGINS, ""))[control.task]


def families() -> dict[str, tuple[str, ...]]:
    """Return the tasks of each name in ``variant.tasks``; users take turns with them in this order."""
    found: dict[str, list[Control]] = {}
    for control in controls():
        found.setdefault(control.family, []).append(control)
    turns = {
        family: tuple(control.task for control in sorted(members, key=lambda control: (control.turn, control.task)))
        for family, members in found.items()
    }
    return {SEQUENTIAL: (SEQUENTIAL,), **turns, SEARCH: (SEARCH,), CHAT: (CHAT,)}


def own_families(tasks: Iterable[str]) -> tuple[str, ...]:
    """Return the families of ``variant.tasks`` that Table 7 does not have: those of added controls."""
    return tuple(family for family in tasks if family not in PAPER_FAMILIES)


def stream_number(task: str) -> int:
    """Return the number of the random stream that samples of a task are drawn from."""
    control = control_of(task)
    return _OWN_STREAM[task] if control is None else control.stream_number


@functools.cache
def _kinds_under(plugins: str) -> dict[str, str]:
    """Return the kinds by task; ``plugins`` as in :func:`_by_task_under`."""
    return {control.task: kind for kind, control in CONTROLS.items()}


def _by_task() -> dict[str, Control]:
    return _by_task_under(os.environ.get(PLUGINS, ""))


@functools.cache
def _by_task_under(plugins: str) -> dict[str, Control]:
    """Return the controls by task; ``plugins`` is the variable's value, so that a change of it is seen."""
    for kind in CONTROLS.added():
        if (family := CONTROLS[kind].family) in PAPER_FAMILIES:
            raise CtrlRecError(
                f"control '{kind}': its family '{family}' is one of Table 7, and users would take turns with it there; "
                f"give it a family of its own, such as '{kind}', and list that in variant.tasks"
            )
    return {control.task: control for control in CONTROLS.values()}
