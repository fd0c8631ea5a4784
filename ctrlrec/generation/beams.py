"""The likeliest whole answers to a prompt, by transformers' beam search."""

from collections.abc import Sequence
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from ctrlrec.generation.by_transformers import by_transformers
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.lm.chat_format import ChatFormat


def beam_search(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    beams: int,
    constraint: Constraint | None = None,
    starts: Sequence[Any] = (),
) -> list[list[list[int]]]:
    """Return several answers to each prompt of a batch.

    Args:
        model: in evaluation mode.
        chat_format: padding and the ends of answers.
        prompts: B rows of ids.
        max_new_tokens: longest answer.
        beams: answers kept while searching, and given.
        constraint: what may be written; None for anything.
        starts: B states of the constraint before an answer.

    Returns:
        B lists of ``beams`` rows of generated ids, the likeliest first, without padding; fewer if the constraint allows
        fewer answers.
    """
    rows, _ = by_transformers(
        model,
        chat_format,
        prompts,
        constraint,
        starts,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=beams,
        num_return_sequences=beams,
    )
    groups = [rows[begin : begin + beams] for begin in range(0, len(rows), beams)]
    if constraint is None:
        return groups
    # Beams without a choice left repeat others or hold what is not allowed.
    return [
        [list(row) for row in dict.fromkeys(map(tuple, group)) if len(constraint.replay(start, row)) == len(row)]
        for group, start in zip(groups, starts, strict=True)
    ]
