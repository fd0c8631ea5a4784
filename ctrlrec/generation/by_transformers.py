"""Answers by transformers' ``generate``: greedy, sampled or the best of a beam search; token ids in, token ids out."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.sample import Sample, answer_length
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.kernels import selective_log_softmax
from ctrlrec.lm.scoring import pad


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


def greedy_or_sampled(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    temperature: float | None,
    constraint: Constraint | None,
    starts: Sequence[Any],
) -> list[Sample]:
    """Return one answer to each prompt of a batch.

    Args:
        model: in evaluation mode.
        chat_format: padding and the ends of answers.
        prompts: B rows of ids.
        max_new_tokens: longest answer.
        temperature: None decodes greedily; a number samples from the full distribution at it.
        constraint: what may be written; None for anything.
        starts: B states of the constraint before an answer.
    """
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
