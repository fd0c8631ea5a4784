"""Examples to batches of one optimiser step, a function of (seed, step) alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.instructions.controls import Example
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.scoring import pad

IGNORED = -100  # positions that carry no loss


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of similar length.

    Attributes:
        ids: (B, L) prompt and response, of an encoder-decoder the prompt alone; padded on the right.
        mask: (B, L) 1 on real tokens.
        labels: (B, L) the id on response tokens, ``IGNORED`` elsewhere; of an encoder-decoder (B, T), its response.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device) -> "MicroBatch":
        """The same rows on a device."""
        return MicroBatch(self.ids.to(device), self.mask.to(device), self.labels.to(device))


def encode(examples: Sequence[Example], chat_format: ChatFormat) -> list[tuple[list[int], list[int]]]:
    """Prompt ids and response ids (with the end-of-sequence token) of each example."""
    prompts = chat_format.prompts([example.instruction.messages for example in examples])
    return list(zip(prompts, chat_format.responses([example.response for example in examples]), strict=True))


def collate(rows: Sequence[tuple[list[int], list[int]]], padding: int, encoder_decoder: bool = False) -> MicroBatch:
    """One micro-batch; loss on response tokens only."""
    if encoder_decoder:
        return MicroBatch(*pad([prompt for prompt, _ in rows], padding), pad([row for _, row in rows], IGNORED)[0])
    ids, mask = pad([prompt + response for prompt, response in rows], padding)
    labels, _ = pad([[IGNORED] * len(prompt) + response for prompt, response in rows], IGNORED)
    return MicroBatch(ids, mask, labels)


def by_length(
    rows: Sequence[tuple[list[int], list[int]]], size: int, padding: int, encoder_decoder: bool = False
) -> list[MicroBatch]:
    """Rows sorted by length and cut into micro-batches, so that hardly anything is padded."""
    ordered = sorted(rows, key=lambda row: len(row[0]) + len(row[1]))
    return [collate(ordered[begin : begin + size], padding, encoder_decoder) for begin in range(0, len(ordered), size)]


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
    ):
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
        chat_format = self.chat_format
        return by_length(rows[: len(self._rows)], self.micro_batch_size, chat_format.pad, chat_format.encoder_decoder)


class Steps(torch.utils.data.Dataset):
    """A range of optimiser steps as a map-style dataset, for Lightning's loaders."""

    def __init__(self, stream: TrainingStream, steps: range):
        self.stream, self.steps = stream, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> list[MicroBatch]:
        return self.stream.batch(self.steps[index])
