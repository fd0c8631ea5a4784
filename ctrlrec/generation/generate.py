"""Answers from a model: greedy for evaluation, sampled for RL; token ids in, token ids out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.decoder import Sample, answer_length, decode
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
    constraint: Constraint | None = None,
    starts: Sequence[Any] = (),
) -> list[Sample]:
    """Answer prompts, batched by length so that little is spent on padding.

    Args:
        model: in evaluation mode, with the adapter to use active.
        chat_format: padding and the ends of answers.
        prompts: B rows of ids.
        max_new_tokens: longest answer.
        engine: ``generation.engine``: native (:mod:`ctrlrec.generation.decoder`), hf (transformers), or auto: native if
            it supports the model.
        temperature: None decodes greedily; a number samples from the full distribution at it.
        samples: answers to each prompt.
        batch_size: most answers in the making at a time; None for all. If memory runs out, what is finished
            stays, and the rest is made half as many at a time.
        progress: called with the number of answers that were just finished.
        constraint: what may be written; None for anything. Log-probabilities are then those among allowed tokens.
        starts: B states of the constraint before an answer.

    Returns:
        B x samples answers; those of one prompt side by side.

    Raises:
        CtrlRecError: if the native engine is asked for and does not support the model, or nothing is allowed.
    """
    reason = unsupported(model)
    if engine == "native" and reason is not None:
        raise CtrlRecError(f"generation.engine=native: {reason}; set generation.engine=auto")
    repeated = [prompt for prompt in prompts for _ in range(samples)]
    order = sorted(range(len(repeated)), key=lambda index: len(repeated[index]))
    answers: dict[int, Sample] = {}  # they stay if memory runs out

    def answer(size: int) -> list[Sample]:
        if engine != "hf" and reason is None:
            return decode(
                model,
                prompts,
                chat_format.ends,
                max_new_tokens,
                temperature,
                samples,
                size,
                progress,
                constraint,
                starts,
                answers,
            )
        missing = [row for row in order if row not in answers]
        for begin in range(0, len(missing), size):
            rows = missing[begin : begin + size]
            batch = [repeated[row] for row in rows]
            states = [starts[row // samples] for row in rows] if constraint is not None else []
            made = _transformers(model, chat_format, batch, max_new_tokens, temperature, constraint, states)
            answers.update(zip(rows, made, strict=True))
            progress(len(rows))
        return [answers[index] for index in range(len(repeated))]

    return halving(answer, batch_size or max(1, len(repeated)))


class ConstraintProcessor(LogitsProcessor):
    """A constraint in transformers' ``generate``; the rows of a prompt stand side by side and may change places.

    A beam that is left without a choice takes a token that is not allowed; its row is free from there on.

    Args:
        constraint: what may be written.
        starts: one state for each prompt.
        begin: place of the first generated token in a row.
    """

    def __init__(self, constraint: Constraint, starts: Sequence[Any], begin: int):
        self.constraint, self.begin = constraint, begin
        self._states: dict[tuple[int, ...], Any] = {(prompt,): state for prompt, state in enumerate(starts)}
        self._prompts = len(starts)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores (rows, V) with those of tokens that are not allowed at the lowest number."""
        rows = len(input_ids) // self._prompts
        written = [(index // rows, *tokens) for index, tokens in enumerate(input_ids[:, self.begin :].tolist())]
        if input_ids.shape[1] > self.begin:
            self._states = {row: self._after(self._states[row[:-1]], row[-1]) for row in set(written)}
        return self.constraint.restrict([self._states[row] for row in written], scores)

    def _after(self, state: Any, token: int) -> Any:
        choices = self.constraint.choices(state)
        if choices is not None and token not in choices:
            return None
        return self.constraint.follow([state], [token])[0]


@torch.inference_mode()
def by_transformers(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    constraint: Constraint | None = None,
    starts: Sequence[Any] = (),
    **settings: Any,
) -> tuple[list[list[int]], list[torch.Tensor]]:
    """Run transformers' ``generate`` on a batch; ``settings`` alone decide, not the checkpoint's own.

    Args:
        model: in evaluation mode.
        chat_format: padding and the ends of answers.
        prompts: B rows of ids.
        constraint: what may be written; None for anything.
        starts: B states of the constraint before an answer.
        settings: fields of transformers' GenerationConfig.

    Returns:
        Rows of generated ids, each with the token that ended it if there was one, and the (rows, V) scores of each step
        if ``output_scores`` asks for them.
    """
    ids, mask = pad(prompts, chat_format.pad, left=not chat_format.encoder_decoder)
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    start, opening = ids.shape[1], None
    if chat_format.encoder_decoder:  # the answer is a sequence of its own, after one token that opens it
        start, opening = 1, base.config.decoder_start_token_id
    told = GenerationConfig(
        eos_token_id=sorted(chat_format.ends),
        pad_token_id=chat_format.pad,
        decoder_start_token_id=opening,
        return_dict_in_generate=True,
        renormalize_logits=constraint is not None,
        **settings,
    )
    masks = LogitsProcessorList([] if constraint is None else [ConstraintProcessor(constraint, starts, start)])
    # Settings that are left open would come from the checkpoint's own (a repetition penalty, min-p, forbidden tokens)
    # and bend the distribution away from the one that log-probabilities are taken over.
    own, base.generation_config = base.generation_config, GenerationConfig()
    try:
        generated = base.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=told,
            logits_processor=masks,
        )
    finally:
        base.generation_config = own
    rows = generated.sequences[:, start:].tolist()
    rows = [row[: answer_length(row, chat_format.ends)] for row in rows]
    return rows, list(generated.scores or ())


def _transformers(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float | None,
    constraint: Constraint | None,
    starts: Sequence[Any],
) -> list[Sample]:
    """Return one answer to each prompt of a batch, by transformers."""
    rows, scores = by_transformers(
        model,
        chat_format,
        prompts,
        constraint,
        starts,
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
