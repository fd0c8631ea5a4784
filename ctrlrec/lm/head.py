"""The head on the tokens that are predicted: on all at once, or in chunks, so that their scores never exist together.

In chunks, the backward pass computes the scores again.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from peft import PeftModel
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ctrlrec.config.schema import TrainerConfig
from ctrlrec.lm import kernels
from ctrlrec.runtime.hardware import device

Made = TypeVar("Made")

_SCORES = 2**27  # that exist at a time: half a gigabyte in float32


def is_chunked(config: TrainerConfig) -> bool:
    """Return ``trainer.chunked_head``; null is true on a GPU."""
    return device(config).type == "cuda" if config.chunked_head is None else config.chunked_head


def logits(model: PreTrainedModel | PeftModel, hidden: torch.Tensor) -> torch.Tensor:
    """Apply the head to any (..., H) hidden states; float32 (..., V)."""
    return _head(model)(hidden).float()


def _head(model: PreTrainedModel | PeftModel) -> torch.nn.Module:
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return base.get_output_embeddings()


def by_chunks(
    model: PreTrainedModel | PeftModel,
    hidden: torch.Tensor,
    work: Callable[[torch.Tensor, slice], Made],
    chunked: bool,
) -> list[Made]:
    """Apply the head and return what is made of the scores of each chunk of tokens.

    Args:
        model: whose head to apply.
        hidden: (N, H) hidden states.
        work: takes float32 scores (n, V) and the place of their tokens among the N.
        chunked: False takes all tokens as one chunk.
    """
    if not chunked:
        return [work(logits(model, hidden), slice(0, len(hidden)))]
    size = max(1, _SCORES // int(model.config.get_text_config().vocab_size))

    def piece(part: torch.Tensor, at: slice) -> Made:
        return work(logits(model, part), at)

    kept = (
        partial(checkpoint, piece, use_reentrant=False, preserve_rng_state=False) if torch.is_grad_enabled() else piece
    )
    places = [slice(begin, begin + size) for begin in range(0, max(1, len(hidden)), size)]
    return [kept(hidden[at], at) for at in places]


def log_probs_and_entropy(
    model: PreTrainedModel | PeftModel,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    temperature: float,
    restrict: Callable[[torch.Tensor, slice], torch.Tensor] | None,
    chunked: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each target and the entropy at its place; both (N,).

    Args:
        model: whose head to apply.
        hidden: (N, H) hidden states that predict the targets.
        targets: (N,) ids.
        temperature: that both are taken at.
        restrict: takes scores (n, V) and their place among the N; returns them without what was not allowed. None if
            everything was.
        chunked: whether scores of few tokens exist at a time.
    """
    if chunked and restrict is None and has_kernel(model):
        return likelihoods(model, hidden, targets, temperature, entropy=True)

    def work(scores: torch.Tensor, at: slice) -> tuple[torch.Tensor, torch.Tensor]:
        scores = scores / temperature
        if restrict is not None:
            scores = restrict(scores, at)
        # One row of n tokens: the kernel loops over the first dimension.
        return kernels.selective_log_softmax(scores[None], targets[at][None])[0], kernels.entropy_from_logits(scores)

    log_probs, entropy = zip(*by_chunks(model, hidden, work, chunked), strict=True)
    return torch.cat(log_probs), torch.cat(entropy)


def has_kernel(model: PreTrainedModel | PeftModel) -> bool:
    """Return whether :func:`likelihoods` can compute a model's head: a plain linear layer, and TRL has the kernel."""
    return kernels.ChunkedLogProbFunction is not None and type(_head(model)) is torch.nn.Linear


def likelihoods(
    model: PreTrainedModel | PeftModel,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    temperature: float = 1.0,
    entropy: bool = False,
) -> tuple[torch.Tensor, Any]:
    """Return log-probabilities (N,), and entropies (N,) or None, by TRL's kernel: on a GPU one pass over the scores.

    Args:
        model: one that :func:`has_kernel`.
        hidden: (N, H) hidden states that predict the targets.
        targets: (N,) ids.
        temperature: that both are taken at.
        entropy: whether entropies are wanted.
    """
    head: Any = _head(model)
    width = min(len(head.weight), _SCORES // kernels.TOKENS_AT_ONCE)
    outputs = ("entropy",) if entropy else ()
    assert kernels.ChunkedLogProbFunction is not None
    log_probs, entropies, *_ = kernels.ChunkedLogProbFunction.apply(
        hidden, head.weight, head.bias, targets, temperature, width, None, 1.0, outputs
    )
    return log_probs, entropies
