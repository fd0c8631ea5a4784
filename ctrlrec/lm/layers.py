"""The repeated layers of a backbone: compiled, and with checkpointed activations."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ctrlrec.errors import CtrlRecError

_GRAPHS = (
    32  # of one layer; torch gives up compiling after 8, with which three adapters and a mask that comes and goes end
)


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


def compile_layers(model: PreTrainedModel, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the forward pass of a layer, which all layers share; lengths may change without compiling again.

    There is one graph for each adapter in force, without gradients and with; the first layer, whose input has none,
    has one of its own. A layer that reads a cache stays as it is.

    Args:
        model: before its activations are checkpointed.
        backend: of ``torch.compile``.
    """
    limits: Any = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, _GRAPHS)
    for layer in repeated_layers(model):
        fast = torch.compile(layer.forward, dynamic=True, backend=backend)
        layer.forward = partial(_unless_cached, layer.forward, fast)


def _unless_cached(plain: Callable[..., Any], fast: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return (fast if kwargs.get("past_key_values") is None else plain)(*args, **kwargs)


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
