"""Forward passes that compute the vocabulary only where a response token is predicted."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel


def pad(rows: Sequence[Sequence[int]], value: int, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of ids as one tensor.

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


def hidden_states(model: PreTrainedModel | PeftModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Last hidden states (B, L, H) of padded rows; positions count real tokens, so padding on the left is invisible."""
    return _decode(model, ids, mask, (mask.cumsum(-1) - 1).clamp(min=0))


def packed_hidden_states(
    model: PreTrainedModel | PeftModel, ids: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Last hidden states (B, L, H) of rows that may hold several samples each.

    Args:
        model: one that :func:`keeps_apart`, unless every row holds one sample.
        ids: (B, L), padded on the right.
        positions: (B, L), starting at 0 with every sample; 0 on padding. A token attends to its own sample alone.
    """
    return _decode(model, ids, None, positions)


def _decode(
    model: PreTrainedModel | PeftModel, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor
) -> torch.Tensor:
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return base.get_decoder()(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state


def keeps_apart(model: PreTrainedModel | PeftModel) -> bool:
    """Whether positions that start anew make two samples of a row invisible to each other.

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


def logits(model: PreTrainedModel | PeftModel, hidden: torch.Tensor) -> torch.Tensor:
    """Apply the head to any (..., H) hidden states; float32 (..., V)."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return base.get_output_embeddings()(hidden).float()


def check_head(model: PreTrainedModel) -> None:
    """Make sure that decoder and head alone are the whole of the model's forward pass.

    Raises:
        NotImplementedError: for an architecture that does more between them (soft-capped or scaled logits).
    """
    ids = torch.tensor([[1, 2, 3]], device=model.device)
    with torch.no_grad():
        whole = model(input_ids=ids).logits.float()
        parts = logits(model, hidden_states(model, ids, torch.ones_like(ids)))
    if not torch.allclose(whole, parts, atol=1e-3, rtol=1e-3):
        raise NotImplementedError(f"{type(model).__name__} changes its logits after the head; it is not supported")
