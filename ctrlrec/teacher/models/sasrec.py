"""SASRec (Kang and McAuley, 2018): causal self-attention over the last items of a user."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from ctrlrec.config.schema import bounded
from ctrlrec.errors import CtrlRecError
from ctrlrec.teacher.models.base import TeacherModel, initialise


@dataclass
class SASRecOptions:
    """Settings of SASRec.

    Raises:
        CtrlRecError: if the heads cannot share the width evenly.
    """

    embedding: int = bounded(1)
    layers: int = bounded(1)
    heads: int = bounded(1)
    dropout: float = bounded(0, 0.99)

    def __post_init__(self) -> None:
        if self.embedding % self.heads:
            raise CtrlRecError("teacher.options.embedding must be divisible by teacher.options.heads")


class _Block(nn.Module):
    """Causal self-attention and a pointwise feed-forward net; each reads a layer norm and adds to its input."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projection, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width), nn.Dropout(dropout)
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        batch, length, width = states.shape
        parts = self.projection(self.norm_attention(states)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        mixed = self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        states = states + functional.dropout(mixed, self.dropout, self.training)
        return states + self.feedforward(self.norm_feedforward(states))

    def newest(self, states: torch.Tensor) -> torch.Tensor:
        """Return what :meth:`forward` gives at the last position, without dropout and without computing the others."""
        batch, _, width = states.shape
        normed, weight, bias = self.norm_attention(states), self.projection.weight, self.projection.bias
        query = functional.linear(normed[:, -1:], weight[:width], bias[:width])
        key, value = functional.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
        query, key, value = (
            part.reshape(batch, -1, self.heads, width // self.heads).transpose(1, 2) for part in (query, key, value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        newest = states[:, -1] + self.output(mixed.reshape(batch, width))
        return newest + self.feedforward(self.norm_feedforward(newest))


class SASRec(TeacherModel):
    """Causal self-attention blocks over item and position embeddings."""

    Options = SASRecOptions

    def __init__(self, items: int, length: int, options: SASRecOptions):
        super().__init__(items, length, options)
        width = options.embedding
        self.position_embedding = nn.Embedding(length, width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(_Block(width, options.heads, options.dropout) for _ in range(options.layers))
        self.norm = nn.LayerNorm(width)
        initialise(self)

    def forward(self, histories: torch.Tensor) -> torch.Tensor:
        """Return the state after each position; see :meth:`TeacherModel.forward`."""
        states = self._embedded(histories)
        for block in self.blocks:
            states = block(states)
        return self.norm(states)

    def newest(self, histories: torch.Tensor) -> torch.Tensor:
        """Return the states after the last position without computing the others; for a model in evaluation mode."""
        states = self._embedded(histories)
        *blocks, last = self.blocks
        for block in blocks:
            states = block(states)
        return self.norm(last.newest(states))  # type: ignore[operator]

    def _embedded(self, histories: torch.Tensor) -> torch.Tensor:
        positions = self.position_embedding.weight[: histories.shape[1]]
        return self.dropout(self.item_embedding(histories) + positions)


TEACHER = SASRec
