"""Attention of packed samples without a mask: the kernel of torch for sequences of different lengths, on a GPU.

A mask over rows of length L takes L x L numbers and rules out the fast kernels. Here all rows are one sequence, and the
kernel is told where samples begin.
"""

from contextlib import suppress
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

varlen_attn: Any = None
with suppress(ImportError):  # of an older torch
    from torch.nn.attention.varlen import varlen_attn  # type: ignore[no-redef]


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Return what attention mixes, (B, L, heads, D), as transformers asks for it.

    Args:
        module: of the layer.
        query: (B, heads, L, D).
        key: (B, kv_heads, L, D).
        value: (B, kv_heads, L, D).
        attention_mask: read only if it is not said where samples begin; transformers' own kernel then does the work.
        cu_seq_lens_q: (samples + 1,) where samples begin in all rows laid end to end, and where the last one ends.
        max_length_q: tokens of the longest sample.
        scaling: of scores.
        sliding_window: tokens that one sees, itself included; None for all before it.
        others: further arguments of transformers.
    """
    if cu_seq_lens_q is None or max_length_q is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
    # Rotations may have raised queries and keys to float32, which the kernel does not take.
    flat = [part.to(value.dtype).transpose(1, 2).flatten(0, 1) for part in (query, key, value)]
    mixed = varlen_attn(
        *flat,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return mixed.unflatten(0, (query.shape[0], query.shape[2])), None


def _mask(attention_mask: torch.Tensor | None = None, **told: Any) -> torch.Tensor | None:
    """Return a mask if there is padding to hide; where samples begin, the kernel is told."""
    return None if attention_mask is None else sdpa_mask(attention_mask=attention_mask, **told)


def register_varlen() -> None:
    """Make ``model.attention=varlen`` a choice of transformers."""
    AttentionInterface.register("varlen", attend)
    AttentionMaskInterface.register("varlen", _mask)
