"""What a teacher is: a sequential recommender that scores every item after a history."""

import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

INITIAL_STD = 0.02  # of every weight matrix; keeps the first softmax near uniform

WEIGHTS, DESCRIPTION = "teacher.safetensors", "teacher_model.json"


class TeacherModel(nn.Module, ABC):
    """A sequential recommender with a vector per item; every module of this folder names one ``TEACHER``.

    A history starts at position 0 and is padded after its newest item. A model is causal: the state after position p
    depends on the first p + 1 items alone. So every position of a training window is a question of its own.

    Args:
        items: size of the catalogue.
        length: most items of a history.
        options: the settings under ``teacher.options``, an instance of :attr:`Options`.

    Attributes:
        Options: dataclass of the settings that this model has, each with its type and bounds. ``embedding``, the size
            of an item's vector, is one of them.
        padding: the index that stands for no item.
    """

    Options: ClassVar[type]

    def __init__(self, items: int, length: int, options: Any):
        super().__init__()
        self.items, self.length, self.options = items, length, options
        self.padding = items
        self.item_embedding = nn.Embedding(items + 1, options.embedding, padding_idx=items)

    @abstractmethod
    def forward(self, histories: torch.Tensor) -> torch.Tensor:
        """Return the state after each position.

        Args:
            histories: (B, L) item indices, oldest first, ``padding`` after the newest; L <= ``length``.

        Returns:
            (B, L, embedding); states of padded positions mean nothing.
        """

    def newest(self, histories: torch.Tensor) -> torch.Tensor:
        """Return the states (B, embedding) after the last position of histories (B, L) without padding."""
        return self(histories)[:, -1]

    def scores(self, states: torch.Tensor) -> torch.Tensor:
        """Return the scores (..., items) of states (..., embedding); the item embedding is also the output."""
        return states @ self.item_embedding.weight[:-1].T

    def loss(self, histories: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the full softmax cross-entropy, averaged over every position that has a target (spec section 4).

        Args:
            histories: (B, L) item indices.
            targets: (B, L) the item that follows each position; ``padding`` if none does.
        """
        real = targets != self.padding
        return functional.cross_entropy(self.scores(self(histories)[real]), targets[real])

    @torch.no_grad()
    def scores_after(self, histories: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the scores (B, items) of every item after each history.

        Args:
            histories: B lists of 1 to ``length`` item indices, oldest first.
        """
        weight = self.item_embedding.weight
        places: dict[int, list[int]] = defaultdict(list)
        for place, history in enumerate(histories):
            places[len(history)].append(place)
        # One length at a time: padded to one length, half of all positions would be padding.
        states = weight.new_empty(len(histories), weight.shape[1])
        for group in places.values():
            rows = torch.tensor([list(histories[place]) for place in group], device=weight.device)
            states[torch.tensor(group, device=weight.device)] = self.newest(rows).to(weight.dtype)
        return self.scores(states)

    @classmethod
    def name(cls) -> str:
        """Return the name of the module that defines the model, by which ``teacher.model`` chooses it."""
        return cls.__module__.rpartition(".")[2]

    def save(self, directory: Path) -> None:
        """Write the weights (``teacher.safetensors``) and what builds the model again (``teacher_model.json``)."""
        description = {"model": self.name(), "items": self.items, "length": self.length}
        text = json.dumps(description | {"options": asdict(self.options)}, indent=2)
        save_file(self.state_dict(), directory / WEIGHTS)
        (directory / DESCRIPTION).write_text(text, encoding="utf-8")


def initialise(model: TeacherModel) -> None:
    """Draw small normal weights for every linear layer and embedding; zero the biases and the padding's vector."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=INITIAL_STD)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        model.item_embedding.weight[model.padding] = 0
