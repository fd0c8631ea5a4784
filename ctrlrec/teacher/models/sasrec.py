"""SASRec (Kang and McAuley, 2018): causal self-attention over the last items of a user."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from ctrlrec.errors import CtrlRecError

INITIAL_STD = 0.02  # of every weight matrix; keeps the first softmax near uniform


class _Block(nn.Module):
    """Causal self-attention and a pointwise feed-forward net, each behind a layer norm, with residual paths."""

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
        """What :meth:`forward` gives at the last position, without dropout and without computing the others."""
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


class SASRec(nn.Module):
    """Scores every item after every position of a history.

    A history starts at position 0 and is padded behind its newest item, where causal attention never looks: position
    p of any training window is exactly the question that a history of p + 1 items asks later.

    Args:
        items: size of the catalogue.
        length: most items of a history.
        embedding: width.
        layers: blocks.
        heads: attention heads.
        dropout: probability.
    """

    def __init__(self, items: int, length: int, embedding: int, layers: int, heads: int, dropout: float):
        super().__init__()
        self.sizes = {"items": items, "length": length, "embedding": embedding, "layers": layers, "heads": heads}
        self.padding = items
        self.item_embedding = nn.Embedding(items + 1, embedding, padding_idx=items)
        self.position_embedding = nn.Embedding(length, embedding)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(embedding, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(embedding)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INITIAL_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.item_embedding.weight[items] = 0

    def forward(self, histories: torch.Tensor) -> torch.Tensor:
        """States after each position.

        Args:
            histories: (B, L) item indices, oldest first, ``padding`` behind the newest; L <= ``length``.

        Returns:
            (B, L, width); states of padded positions mean nothing.
        """
        states = self._embedded(histories)
        for block in self.blocks:
            states = block(states)
        return self.norm(states)

    def newest(self, histories: torch.Tensor) -> torch.Tensor:
        """States (B, width) after the last position of histories without padding: :meth:`forward` there, evaluating."""
        states = self._embedded(histories)
        *blocks, last = self.blocks
        for block in blocks:
            states = block(states)
        return self.norm(last.newest(states))  # type: ignore[operator]

    def _embedded(self, histories: torch.Tensor) -> torch.Tensor:
        positions = self.position_embedding.weight[: histories.shape[1]]
        return self.dropout(self.item_embedding(histories) + positions)

    def scores(self, states: torch.Tensor) -> torch.Tensor:
        """Scores (..., items) of states (..., width); the item embedding is also the output."""
        return states @ self.item_embedding.weight[:-1].T

    def loss(self, histories: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Full softmax cross-entropy, averaged over every position that has a target.

        Args:
            histories: (B, L) item indices.
            targets: (B, L) the item that follows each position; ``padding`` where none does.
        """
        real = targets != self.padding
        return functional.cross_entropy(self.scores(self(histories)[real]), targets[real])

    def save(self, directory: Path) -> None:
        """Write ``sasrec.safetensors`` and ``sasrec.json``."""
        save_file(self.state_dict(), directory / "sasrec.safetensors")
        (directory / "sasrec.json").write_text(json.dumps(self.sizes), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> "SASRec":
        """Read what :meth:`save` wrote; in evaluation mode.

        Raises:
            CtrlRecError: where one of the two files is missing, broken or does not fit the other.
        """
        try:
            sizes = json.loads((directory / "sasrec.json").read_text(encoding="utf-8"))
            model = cls(**sizes, dropout=0.0)
            model.load_state_dict(load_file(directory / "sasrec.safetensors"))
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise CtrlRecError(
                f"{directory}: no usable teacher in sasrec.json and sasrec.safetensors ({reason}); "
                "make the teacher stage again"
            ) from None
        return model.eval()
