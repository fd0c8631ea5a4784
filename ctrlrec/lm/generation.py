"""Answers from a model: greedy for evaluation, sampled for RL; token ids in, token ids out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.scoring import pad


@torch.inference_mode()
def generate(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float | None = None,
) -> list[list[int]]:
    """Answer a batch of prompts in one call.

    Args:
        model: in evaluation mode, with the adapter to use active.
        chat_format: padding and end-of-sequence tokens.
        prompts: B rows of ids.
        max_new_tokens: longest answer.
        temperature: None decodes greedily; a number samples from the full distribution at it.

    Returns:
        B rows of generated ids, the end-of-sequence token included where it was reached.
    """
    ids, mask = pad(prompts, chat_format.pad, left=True)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature is not None,
        temperature=1.0 if temperature is None else temperature,
        top_k=0,  # None would mean 50: log-probabilities are taken over the full distribution
        top_p=1.0,
        eos_token_id=chat_format.end,
        pad_token_id=chat_format.pad,
    )
    # What the settings leave open would come from the checkpoint's own (a repetition penalty, min-p, forbidden tokens)
    # and bend the distribution away from the one that log-probabilities are taken over.
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        generated = base.generate(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=settings
        )
    finally:
        base.generation_config = own
    answers = []
    for row in generated[:, ids.shape[1] :].tolist():
        end = row.index(chat_format.end) + 1 if chat_format.end in row else len(row)
        answers.append(row[:end])
    return answers


def generate_many(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    progress: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """Greedy answers to any number of prompts, batched by length so that little is spent on padding."""
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for begin in range(0, len(order), batch_size):
        rows = order[begin : begin + batch_size]
        for row, answer in zip(
            rows, generate(model, chat_format, [prompts[row] for row in rows], max_new_tokens), strict=True
        ):
            answers[row] = answer
        progress(len(rows))
    return answers
