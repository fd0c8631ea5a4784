"""Forward passes that compute the vocabulary only where a response token is predicted."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from transformers import PreTrainedModel

from ctrlrec.lm.head import logits

_READ_POSITIONS = ("eager", "sdpa", "flex_attention")  # kernels whose mask transformers makes from positions


def pad(rows: Sequence[Sequence[int]], value: int, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows of ids as one tensor.

    Returns:
        ``(ids, mask)``, both (B, longest), long; the mask is 1 on real tokens.
    """
    longest = max((len(row) for row in rows), default=0)
    ids = torch.full((len(rows), longest), value, dtype=torch.long)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        begin = longest - len(row) if left else 0
        ids[index, begin : begin + len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, begin : begin + len(row)] = 1
    return ids, mask


def hidden_states(model: PreTrainedModel | PeftModel, ids: torch.Tensor) -> torch.Tensor:
    """Return the last hidden states (B, L, H) of rows that are padded on the right.

    Causal attention hides what comes after a token. So there is no mask, which would rule out the fastest kernels.
    """
    return packed_hidden_states(model, ids, torch.arange(ids.shape[1], device=ids.device).expand_as(ids))


def packed_hidden_states(
    model: PreTrainedModel | PeftModel, ids: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Return last hidden states (B, L, H) of rows that may hold several samples each.

    Args:
        model: one that :func:`keeps_apart`, unless every row holds one sample.
        ids: (B, L), padded on the right.
        positions: (B, L), starting at 0 with every sample. A token attends to its own sample alone. Padding belongs to
            the last sample of its row, and nothing attends to it.
    """
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    borders = {} if base.config._attn_implementation in _READ_POSITIONS else _borders(positions)
    decoder = base.get_decoder()
    return decoder(input_ids=ids, position_ids=positions, use_cache=False, **borders).last_hidden_state


def _borders(positions: torch.Tensor) -> dict[str, Any]:
    """Return where samples begin in all rows laid end to end, and the longest, as flash attention is told.

    It reads positions for this in a single row alone; of several it would take each for one sample.
    """
    flat = positions.flatten()
    begins = functional.pad((flat == 0).nonzero()[:, 0], (0, 1), value=len(flat)).to(torch.int32)
    longest = int(positions.max()) + 1
    return {"cu_seq_lens_q": begins, "cu_seq_lens_k": begins, "max_length_q": longest, "max_length_k": longest}


def keeps_apart(model: PreTrainedModel | PeftModel) -> bool:
    """Return whether positions that start again make two samples of a row invisible to each other.

    Not every architecture and attention kernel reads positions so; a wrong one would learn across samples silently.
    """
    ids = torch.tensor([[1, 2, 3, 4, 5]] * 2, device=model.device)
    with torch.no_grad():
        alone = packed_hidden_states(model, ids[:, 2:], torch.arange(3, device=model.device).expand(2, 3))
        joined, packed = (
            packed_hidden_states(model, ids, torch.tensor([places] * 2, device=model.device))[:, 2:]
            for places in ([0, 1, 2, 3, 4], [0, 1, 0, 1, 2])
        )
    return bool((packed - alone).norm() < 0.1 * (joined - alone).norm())


def _product_type(device: str) -> torch.dtype | None:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def check_head(model: PreTrainedModel) -> None:
    """Make sure that decoder and head alone are the whole of the model's forward pass.

    Raises:
        NotImplementedError: for an architecture that does more between them (soft-capped or scaled logits).
    """
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    with torch.no_grad():
        whole = model(input_ids=ids).logits.float()
        parts = logits(model, hidden_states(model, ids))
    # The two may take different attention kernels, whose products in bfloat16 are rounded differently.
    rounded = torch.bfloat16 in (model.dtype, _product_type(ids.device.type))
    if not (whole - parts).norm() < (2e-2 if rounded else 1e-3) * whole.norm():
        raise NotImplementedError(f"{type(model).__name__} changes its logits after the head; it is not supported")
