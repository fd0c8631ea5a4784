"""Answers from a model: greedy for evaluation, sampled for RL; token ids in, token ids out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.decoder import Sample, decode
from ctrlrec.generation.network import unsupported
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.kernels import selective_log_softmax
from ctrlrec.lm.scoring import pad
from ctrlrec.runtime.faults import halving


def generate(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    engine: str,
    temperature: float | None = None,
    samples: int = 1,
    batch_size: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Sample]:
    """Answer prompts, batched by length so that little is spent on padding.

    Args:
        model: in evaluation mode, with the adapter to use active.
        chat_format: padding and end-of-sequence tokens.
        prompts: B rows of ids.
        max_new_tokens: longest answer.
        engine: ``generation.engine``: native (:mod:`ctrlrec.generation.decoder`),
            hf (transformers), or auto: native where it
            knows the model.
        temperature: None decodes greedily; a number samples from the full distribution at it.
        samples: answers to each prompt.
        batch_size: most answers in the making at a time; None for all. Where memory does not do, half as many.
        progress: called with the number of answers that were just finished.

    Returns:
        B x samples answers; those of one prompt side by side.

    Raises:
        CtrlRecError: where the native engine is asked for and does not know the model.
    """
    reason = unsupported(model)
    if engine == "native" and reason is not None:
        raise CtrlRecError(f"generation.engine=native: {reason}; set generation.engine=auto")
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    order = sorted(range(len(repeated)), key=lambda index: len(repeated[index]))

    def answer(size: int) -> list[Sample]:
        if engine != "hf" and reason is None:
            return decode(model, prompts, chat_format.end, max_new_tokens, temperature, samples, size, progress)
        answers: dict[int, Sample] = {}
        for begin in range(0, len(order), size):
            rows = order[begin : begin + size]
            batch = [repeated[row] for row in rows]
            answers |= zip(rows, _transformers(model, chat_format, batch, max_new_tokens, temperature), strict=True)
            progress(len(rows))
        return [answers[index] for index in range(len(repeated))]

    return halving(answer, batch_size or max(1, len(repeated)))


@torch.inference_mode()
def by_transformers(
    model: PreTrainedModel | PeftModel, chat_format: ChatFormat, prompts: Sequence[Sequence[int]], **settings: Any
) -> tuple[list[list[int]], list[torch.Tensor]]:
    """Transformers' ``generate`` on a batch, decided by ``settings`` and by nothing of the checkpoint's own.

    Args:
        model: in evaluation mode.
        chat_format: padding and end-of-sequence tokens.
        prompts: B rows of ids.
        settings: fields of transformers' GenerationConfig.

    Returns:
        Rows of generated ids, the end-of-sequence token included where it was reached, and the (rows, V) scores of each
        step where ``output_scores`` asks for them.
    """
    ids, mask = pad(prompts, chat_format.pad, left=not chat_format.encoder_decoder)
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    start, opening = ids.shape[1], None
    if chat_format.encoder_decoder:  # the answer is a sequence of its own, behind one token that opens it
        start, opening = 1, base.config.decoder_start_token_id
    told = GenerationConfig(
        eos_token_id=chat_format.end,
        pad_token_id=chat_format.pad,
        decoder_start_token_id=opening,
        return_dict_in_generate=True,
        **settings,
    )
    # What the settings leave open would come from the checkpoint's own (a repetition penalty, min-p, forbidden tokens)
    # and bend the distribution away from the one that log-probabilities are taken over.
    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        generated = base.generate(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=told
        )
    finally:
        base.generation_config = own
    rows = generated.sequences[:, start:].tolist()
    rows = [row[: row.index(chat_format.end) + 1] if chat_format.end in row else row for row in rows]
    return rows, list(generated.scores or ())


def _transformers(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float | None,
) -> list[Sample]:
    """One answer to each prompt of a batch, by transformers."""
    rows, scores = by_transformers(
        model,
        chat_format,
        prompts,
        max_new_tokens=max_new_tokens,
        do_sample=temperature is not None,
        temperature=1.0 if temperature is None else temperature,
        top_k=0,  # None would mean 50: log-probabilities are taken over the full distribution
        top_p=1.0,
        output_scores=temperature is not None,
    )
    tokens, _ = pad(rows, chat_format.pad)
    log_probs = torch.zeros(tokens.shape)
    for step, step_scores in enumerate(scores):
        log_probs[:, step] = selective_log_softmax(step_scores.float().cpu(), tokens[:, step])
    return [Sample(row, scored[: len(row)]) for row, scored in zip(rows, log_probs.tolist(), strict=True)]
