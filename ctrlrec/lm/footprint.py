"""The memory of training, and how many tokens a pass may hold."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from ctrlrec.config.schema import TrainerConfig
from ctrlrec.lm.head import is_chunked
from ctrlrec.runtime.hardware import device, precision

log = logging.getLogger(__name__)

# Bytes kept for the backward pass for each token, layer and unit of width, with adapters, in bfloat16. Counted over all
# tensors of one pass of SmolLM2-135M: 50; what is more is for architectures that keep more.
_KEPT = 60
_HEAD_COPIES = 4  # of the logits in float32: themselves, scaled, their softmax, their gradient
_HEAD_SHARE = 0.5  # of the tokens of a pass that are predicted; counted: a third in SL, under a half in RL
USED = 0.6  # of the memory that is free before training: optimiser, gradients and gaps between blocks take the rest


def bytes_per_token(shape: PretrainedConfig, config: TrainerConfig, chunked: bool) -> float:
    """Return an upper estimate of what one token of a training pass takes in memory.

    Args:
        shape: of the model.
        config: says whether activations are recomputed and whether they are kept in bfloat16.
        chunked: whether the scores of the vocabulary never exist for all tokens at once.
    """
    sizes: Any = shape.get_text_config()
    width, layers = sizes.hidden_size, sizes.num_hidden_layers
    kept = _KEPT * width * layers
    if config.activation_checkpointing:  # the input of each layer, and one layer whole
        kept = 2 * width * layers + _KEPT * width
    if precision(config) == "32-true":
        kept *= 2
    if chunked and not shape.is_encoder_decoder:
        return kept
    return kept + 4 * _HEAD_COPIES * _HEAD_SHARE * sizes.vocab_size


def token_budget(
    asked: int | None, model: PreTrainedModel, config: TrainerConfig, stage: str, taken: float = 0.0
) -> int | None:
    """Return how many tokens, padding included, one training pass may hold.

    Args:
        asked: ``micro_tokens`` of the stage; None to find it.
        model: on the device that trains it.
        config: of the trainer.
        stage: sl or rl, for the log.
        taken: share of the GPU's memory that an engine is going to take.

    Returns:
        ``asked``; if it is None, what fits into the free memory of a GPU; None on a CPU, where passes hold
        ``micro_batch_size`` samples: larger ones are not faster there.
    """
    where = device(config)
    if asked is not None or where.type != "cuda":
        return asked
    free, whole = torch.cuda.mem_get_info(where)
    free = max(0, free - int(taken * whole))
    budget = max(1, int(USED * free / bytes_per_token(model.config, config, is_chunked(config))))
    log.info("%-12s passes of at most %d tokens (%s.micro_tokens), for %.0f GB are free", "", budget, stage, free / 1e9)
    return budget


def fitting(lengths: Sequence[int], budget: int) -> list[int]:
    """Return how many samples each pass holds, so that none is larger than a budget when padded to its longest.

    Args:
        lengths: of samples in tokens, ascending; the passes take them in this order.
        budget: in tokens. A sample that is longer is a pass of its own.
    """
    sizes: list[int] = []
    for length in lengths:
        if sizes and (sizes[-1] + 1) * length <= budget:
            sizes[-1] += 1
        else:
            sizes.append(1)
    return sizes
