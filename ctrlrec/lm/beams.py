"""The likeliest whole answers to a prompt, by transformers' beam search."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.scoring import pad


@torch.inference_mode()
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
    ids, mask = pad(prompts, chat_format.pad, left=not chat_format.encoder_decoder)
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=beams,
        num_return_sequences=beams,
        eos_token_id=chat_format.end,
        pad_token_id=chat_format.pad,
        decoder_start_token_id=base.config.decoder_start_token_id if chat_format.encoder_decoder else None,
    )
    # What the settings leave open must not come from the checkpoint's own (a repetition penalty, forbidden tokens).
    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        found = base.generate(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=settings
        )
    finally:
        base.generation_config = own
    start = 1 if chat_format.encoder_decoder else ids.shape[1]
    rows = found[:, start:].tolist()
    rows = [row[: row.index(chat_format.end) + 1] if chat_format.end in row else row for row in rows]
    return [rows[begin : begin + beams] for begin in range(0, len(rows), beams)]
