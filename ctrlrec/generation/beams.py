"""The likeliest whole answers to a prompt, by transformers' beam search."""

from collections.abc import Sequence

from peft import PeftModel
from transformers import PreTrainedModel

from ctrlrec.generation.generate import by_transformers
from ctrlrec.lm.chat_format import ChatFormat


def beam_search(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    beams: int,
) -> list[list[list[int]]]:
    """Several answers to each prompt of a batch.

    Args:
        model: in evaluation mode.
        chat_format: padding and end-of-sequence tokens.
        prompts: B rows of ids.
        max_new_tokens: longest answer.
        beams: answers kept while searching, and given.

    Returns:
        B lists of ``beams`` rows of generated ids, the likeliest first, without padding.
    """
    rows, _ = by_transformers(
        model,
        chat_format,
        prompts,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=beams,
        num_return_sequences=beams,
    )
    return [rows[begin : begin + beams] for begin in range(0, len(rows), beams)]
