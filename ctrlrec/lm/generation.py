"""Answers from a model: greedy for evaluation, sampled for RL; token ids in, token ids out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel

from ctrlrec.errors import CtrlRecError
from ctrlrec.faults import halving
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.decoding import Sample, decode, unsupported
from ctrlrec.lm.kernels import selective_log_softmax
from ctrlrec.lm.scoring import pad


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
        engine: ``generation.engine``: native (:mod:`ctrlrec.lm.decoding`), hf (transformers), or auto: native where it
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
def _transformers(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float | None,
) -> list[Sample]:
    """One answer to each prompt of a batch, by transformers."""
    ids, mask = pad(prompts, chat_format.pad, left=not chat_format.encoder_decoder)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=temperature is not None,
        temperature=1.0 if temperature is None else temperature,
        top_k=0,  # None would mean 50: log-probabilities are taken over the full distribution
        top_p=1.0,
        eos_token_id=chat_format.end,
        pad_token_id=chat_format.pad,
        return_dict_in_generate=True,
        output_scores=temperature is not None,
    )
    # What the settings leave open would come from the checkpoint's own (a repetition penalty, min-p, forbidden tokens)
    # and bend the distribution away from the one that log-probabilities are taken over.
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    own, base.generation_config = base.generation_config, GenerationConfig()
    start = ids.shape[1]
    if chat_format.encoder_decoder:  # the answer is a sequence of its own, behind one token that opens it
        start, settings.decoder_start_token_id = 1, base.config.decoder_start_token_id
    try:
        generated = base.generate(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), generation_config=settings
        )
    finally:
        base.generation_config = own
    tokens = generated.sequences[:, start:]
    log_probs = torch.zeros(tokens.shape)
    for step, scores in enumerate(generated.scores or ()):
        log_probs[:, step] = selective_log_softmax(scores.float(), tokens[:, step])
    answers = []
    for row, scores in zip(tokens.tolist(), log_probs.tolist(), strict=True):
        size = row.index(chat_format.end) + 1 if chat_format.end in row else len(row)
        answers.append(Sample(row[:size], scores[:size]))
    return answers
