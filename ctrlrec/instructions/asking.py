"""Questions that people ask, in the words of training."""

from collections.abc import Sequence

from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.controls.registry import BLEND, SEQUENTIAL
from ctrlrec.instructions.completion import Completion


def ask(
    completion: Completion,
    history: Sequence[int],
    conditions: Sequence[Condition],
    item_count: int,
    phrasing: int = 0,
    user: str | None = None,
    target: int | None = None,
    suffix: str = "",
) -> Instruction:
    """Return the instruction of a question in its free form.

    One condition is asked as in training, several as a blend in the given order. If the prompt is too long, the oldest
    items of the history are left out, as in training.

    Args:
        completion: gives the words and the length of prompts.
        history: catalogue indices, oldest first.
        conditions: what the list has to meet; none for a plain recommendation.
        item_count: k.
        phrasing: which of a control's sentences is said.
        user: source id of the user, if known.
        target: item that the user really took next, if known.
        suffix: text appended to the prompt.

    Raises:
        CtrlRecError: if the instruction is too long even with one item of the history.
    """
    single = conditions[0] if len(conditions) == 1 else None
    task = single.control.task if single else BLEND if conditions else SEQUENTIAL
    category, proportion = (single.category, single.proportion) if single else (None, None)
    blend = [] if single else [(condition, phrasing) for condition in conditions]

    def render(shown: Sequence[int], candidates: Sequence[int] | None) -> str:
        titles = [completion.catalogue.titles[item] for item in shown]
        words = completion.wording(task, item_count, titles, category, proportion, phrasing=phrasing, blend=blend)
        return words + suffix

    shown, _, messages = completion._fit(task, tuple(history), None, (), render, suffix)
    return Instruction(
        task, user, shown, target, item_count, category, proportion, None, messages, () if single else tuple(conditions)
    )
