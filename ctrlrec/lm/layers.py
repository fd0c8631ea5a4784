"""The repeated layers of a backbone, and activation checkpointing of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ctrlrec.errors import CtrlRecError


def repeated_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """Return the transformer blocks, most of a backbone's weights and activations.

    Raises:
        CtrlRecError: if the architecture does not say what its blocks are.
    """
    kinds = getattr(model, "_no_split_modules", None) or ()
    layers = [module for module in model.modules() if type(module).__name__ in kinds]
    if not layers:
        raise CtrlRecError(
            f"{type(model).__name__} names no layers that could be shared out or computed again: use "
            "trainer.strategy=ddp and trainer.activation_checkpointing=false"
        )
    return layers


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Make each layer keep its input alone and recompute the rest in the backward pass (Chen et al., 2016).

    Gradients are the same. Without gradients nothing changes: answers are sampled with the cache as ever. A backward
    pass must follow while the adapter of its forward pass is still in force.
    """
    for layer in repeated_layers(model):
        layer.forward = partial(_computed_anew, layer.forward)


def _computed_anew(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
