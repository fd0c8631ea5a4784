"""GRU4Rec (Hidasi et al., 2016): gated recurrent units over the last items of a user.

It differs from the paper in two points, so that teachers are compared by their architecture alone. The loss is the full
softmax of every teacher (spec section 4). The item embedding is also the output, as in Hidasi and Karatzoglou (2018).
"""

from dataclasses import dataclass

import torch
from torch import nn

from ctrlrec.config.schema import bounded
from ctrlrec.teacher.models.base import TeacherModel, initialise


@dataclass
class GRU4RecOptions:
    """Settings of GRU4Rec."""

    embedding: int = bounded(1)
    hidden: int = bounded(1)
    layers: int = bounded(1)
    dropout: float = bounded(0, 0.99)


class GRU4Rec(TeacherModel):
    """GRU layers over item embeddings, projected back to the width of an embedding."""

    Options = GRU4RecOptions

    def __init__(self, items: int, length: int, options: GRU4RecOptions):
        super().__init__(items, length, options)
        between = options.dropout if options.layers > 1 else 0.0
        self.dropout = nn.Dropout(options.dropout)
        self.gru = nn.GRU(options.embedding, options.hidden, options.layers, batch_first=True, dropout=between)
        self.projection = nn.Linear(options.hidden, options.embedding)
        initialise(self)

    def forward(self, histories: torch.Tensor) -> torch.Tensor:
        """Return the state after each position; see :meth:`TeacherModel.forward`."""
        states, _ = self.gru(self.dropout(self.item_embedding(histories)))
        return self.projection(self.dropout(states))


TEACHER = GRU4Rec
