"""Examples to batches of one optimiser step, a function of (seed, step) alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch

from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.instructions.controls import Example
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.scoring import pad

IGNORED = -100  # positions that carry no loss
# How samples lie in a tensor; packed needs a model that keeps the samples of a row apart.
Layout = Literal["packed", "padded", "encoder_decoder"]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Samples of one forward pass.

    Attributes:
        ids: (B, L) prompt and response, of an encoder-decoder the prompt alone; padded on the right. A packed row holds
            several samples, one behind the other.
        mask: (B, L) 1 on real tokens.
        labels: (B, L) the id on response tokens, ``IGNORED`` elsewhere; of an encoder-decoder (B, T), its response.
        positions: (B, L) of a token in its sample; 0 on padding.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor

    def to(self, device: torch.device) -> "MicroBatch":
        """The same samples on a device."""
        return MicroBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


def encode(examples: Sequence[Example], chat_format: ChatFormat) -> list[tuple[list[int], list[int]]]:
    """Prompt ids and response ids (with the end-of-sequence token) of each example."""
    prompts = chat_format.prompts([example.instruction.messages for example in examples])
    return list(zip(prompts, chat_format.responses([example.response for example in examples]), strict=True))


def collate(rows: Sequence[tuple[list[int], list[int]]], padding: int, layout: Layout) -> MicroBatch:
    """One micro-batch; loss on response tokens only."""
    if layout == "encoder_decoder":
        ids, mask = pad([prompt for prompt, _ in rows], padding)
        return MicroBatch(ids, mask, pad([response for _, response in rows], IGNORED)[0], mask.cumsum(-1) * mask - mask)
    groups = _pack(rows) if layout == "packed" else [[row] for row in rows]
    ids, mask = pad([[token for row in group for part in row for token in part] for group in groups], padding)
    labels, _ = pad(
        [[label for prompt, response in group for label in [IGNORED] * len(prompt) + response] for group in groups],
        IGNORED,
    )
    positions, _ = pad([[place for row in group for place in range(_length(row))] for group in groups], 0)
    return MicroBatch(ids, mask, labels, positions)


def _length(row: tuple[list[int], list[int]]) -> int:
    return len(row[0]) + len(row[1])


def _pack(rows: Sequence[tuple[list[int], list[int]]]) -> list[list[tuple[list[int], list[int]]]]:
    """Samples in groups no longer than the longest of them: each, longest first, joins the first group with room."""
    groups: list[list[tuple[list[int], list[int]]]] = []
    room: list[int] = []
    for row in sorted(rows, key=_length, reverse=True):
        length = _length(row)
        place = next((index for index, left in enumerate(room) if left >= length), len(groups))
        if place == len(groups):
            groups.append([])
            room.append(max(map(_length, rows)))
        groups[place].append(row)
        room[place] -= length
    return groups


def split(rows: Sequence[tuple[list[int], list[int]]], size: int, padding: int, layout: Layout) -> list[MicroBatch]:
    """Micro-batches of at most ``size`` samples with hardly any padding.

    Packed, each takes its share of long and short samples; padded, samples of similar length are together.
    """
    ordered = sorted(rows, key=_length)
    count = -(-len(rows) // size)
    if layout == "packed":
        return [collate(ordered[first::count], padding, layout) for first in range(count)]
    return [collate(ordered[begin : begin + size], padding, layout) for begin in range(0, len(ordered), size)]


class TrainingStream:
    """The batches of SL, step by step.

    Epoch e is the builder's epoch e, shuffled by (seed, e). Each epoch has as many steps as the first.
    """

    def __init__(
        self,
        builder: InstructionBuilder,
        families: Collection[str],
        chat_format: ChatFormat,
        batch_size: int,
        micro_batch_size: int,
        layout: Layout,
    ):
        self.layout: Layout = layout
        self.builder, self.families, self.chat_format = builder, families, chat_format
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self._rows: list[tuple[list[int], list[int]]] = []
        self._epoch = -1
        self._load(0)
        self.steps_per_epoch = max(1, len(self._rows) // batch_size)

    def _load(self, epoch: int) -> None:
        if epoch != self._epoch:
            rows = encode(self.builder.epoch(epoch, self.families), self.chat_format)
            order = np.random.default_rng([self.builder.seed, 3, epoch]).permutation(len(rows))
            self._rows, self._epoch = [rows[index] for index in order], epoch

    def batch(self, step: int) -> list[MicroBatch]:
        """The micro-batches of one optimiser step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        self._load(epoch)
        begin = position * self.batch_size
        rows = [self._rows[index % len(self._rows)] for index in range(begin, begin + self.batch_size)]
        return split(rows[: len(self._rows)], self.micro_batch_size, self.chat_format.pad, self.layout)


class Steps(torch.utils.data.Dataset):
    """A range of optimiser steps as a map-style dataset, for Lightning's loaders."""

    def __init__(self, stream: TrainingStream, steps: range):
        self.stream, self.steps = stream, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> list[MicroBatch]:
        return self.stream.batch(self.steps[index])
