"""Examples to batches of one optimiser step, a function of (seed, step) alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch

from ctrlrec.controls.instruction import Example
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint, start
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.footprint import fitting
from ctrlrec.lm.scoring import pad
from ctrlrec.runtime import processes
from ctrlrec.sl.soft import SoftBatch, SoftLabels, SoftList

IGNORED = -100  # positions that carry no loss
# How samples lie in a tensor; packed needs a model that keeps the samples of a row apart.
Layout = Literal["packed", "padded", "encoder_decoder"]
Choices = list[np.ndarray | None]  # the tokens allowed at each place, None for all


class Row(NamedTuple):
    """One sample as token ids.

    Attributes:
        prompt: ids.
        response: ids, with the token that ends it.
        choices: what a constraint allows at each place of the response; None without a constraint.
        soft: its soft labels; None if its labels are hard.
    """

    prompt: list[int]
    response: list[int]
    choices: Choices | None = None
    soft: SoftList | None = None


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Samples of one forward pass.

    Attributes:
        ids: (B, L) prompt and response, of an encoder-decoder the prompt alone; padded on the right. A packed row holds
            several samples, one after the other.
        mask: (B, L) 1 on real tokens.
        labels: (B, L) the id on response tokens, ``IGNORED`` elsewhere; of an encoder-decoder (B, T), its response.
        positions: (B, L) of a token in its sample; padding belongs to the last one.
        choices: what a constraint allows at each token with a label, row by row; None without a constraint. Forced
            tokens have no label.
        soft: soft labels; None if all are hard.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    choices: Choices | None = None
    soft: SoftBatch | None = None

    def to(self, device: torch.device) -> "MicroBatch":
        """Return the same samples on a device."""
        ids, mask, labels, positions = (part.to(device) for part in (self.ids, self.mask, self.labels, self.positions))
        soft = None if self.soft is None else self.soft.to(device)
        return MicroBatch(ids, mask, labels, positions, self.choices, soft)


def encode(
    examples: Sequence[Example],
    chat_format: ChatFormat,
    constraint: Constraint | None = None,
    beams: bool = False,
    soft: SoftLabels | None = None,
) -> list[Row]:
    """Return prompt ids, response ids and soft labels of each example, with what a constraint allows.

    Args:
        examples: to learn from.
        chat_format: of the model.
        constraint: among whose tokens is learnt; None for all tokens.
        beams: whether an answer is one title.
        soft: gives soft labels, not under a constraint; None for hard ones.

    Raises:
        CtrlRecError: if the constraint rules out a label.
    """
    prompts = chat_format.prompts([example.instruction.messages for example in examples])
    responses = chat_format.responses([example.response for example in examples])
    if constraint is None:
        softs = [None] * len(examples) if soft is None else soft(examples, responses)
        return [
            Row(prompt, response, None, labels)
            for prompt, response, labels in zip(prompts, responses, softs, strict=True)
        ]
    rows = []
    for example, prompt, response in zip(examples, prompts, responses, strict=True):
        places = constraint.replay(start(constraint, example.instruction, beams), response)
        if len(places) < len(response):
            raise CtrlRecError(
                f"sl.constrained=true constraint.name={constraint.settings.name}: the {example.instruction.task} "
                f"instruction of user {example.instruction.user} teaches {example.response!r}, which the constraint "
                "rules out; set sl.constrained=false, or choose another constraint"
            )
        rows.append(Row(prompt, response, places))
    return rows


def collate(rows: Sequence[Row], padding: int, layout: Layout) -> MicroBatch:
    """Return one micro-batch; loss on response tokens only."""
    groups = _pack(rows, max(map(_length, rows))) if layout == "packed" else [[row] for row in rows]
    return _laid_out(groups, padding, layout)


def _laid_out(groups: Sequence[Sequence[Row]], padding: int, layout: Layout) -> MicroBatch:
    """Return a micro-batch with the samples of each group in one row."""
    apart = layout == "encoder_decoder"  # prompt and response are sequences of their own
    read = [[row.prompt if apart else row.prompt + row.response for row in group] for group in groups]
    ids, mask = pad([[token for tokens in group for token in tokens] for group in read], padding)
    positions = torch.tensor([_places(list(map(len, group)), ids.shape[1]) for group in read])
    learnt = [
        [label for row in group for label in ([] if apart else [IGNORED] * len(row.prompt)) + _labels(row)]
        for group in groups
    ]
    choices: Choices | None = None
    if any(row.choices is not None for group in groups for row in group):
        choices = [
            allowed
            for group in groups
            for row in group
            for allowed in row.choices or [None] * len(row.response)
            if not _forced(allowed)
        ]
    return MicroBatch(ids, mask, pad(learnt, IGNORED)[0], positions, choices, _soft(groups, ids.shape))


def _places(lengths: Sequence[int], width: int) -> list[int]:
    """Return the positions of a row; padding belongs to the last sample and continues its positions."""
    places = [place for length in lengths for place in range(length)]
    return places + list(range(lengths[-1], lengths[-1] + width - len(places)))


def _labels(row: Row) -> list[int]:
    """Return the labels of a response; forced tokens have none."""
    if row.choices is None:
        return row.response
    return [IGNORED if _forced(allowed) else token for token, allowed in zip(row.response, row.choices, strict=True)]


def _forced(allowed: np.ndarray | None) -> bool:
    return allowed is not None and len(allowed) == 1


def _soft(groups: Sequence[Sequence[Row]], shape: torch.Size) -> SoftBatch | None:
    """Return the soft labels of packed or padded rows; None if all labels are hard."""
    at = torch.full(shape, -1)
    lists: list[SoftList] = []
    owners: list[int] = []
    for number, group in enumerate(groups):
        begin = 0
        for row in group:
            if row.soft is not None:
                for place in row.soft.places:
                    at[number, begin + len(row.prompt) + place] = len(owners)
                    owners.append(len(lists))
                lists.append(row.soft)
            begin += _length(row)
    if not owners:
        return None
    scores, allowed = torch.stack([one.scores for one in lists]), torch.cat([one.allowed for one in lists])
    return SoftBatch(at, scores, torch.tensor(owners), allowed)


def _length(row: Row) -> int:
    return len(row.prompt) + len(row.response)


def _pack(rows: Sequence[Row], width: int) -> list[list[Row]]:
    """Return samples in groups: each, longest first, joins the first group with room below ``width`` tokens."""
    groups: list[list[Row]] = []
    room: list[int] = []
    for row in sorted(rows, key=_length, reverse=True):
        place = next((index for index, left in enumerate(room) if left >= _length(row)), len(groups))
        if place == len(groups):
            groups.append([])
            room.append(width)
        groups[place].append(row)
        room[place] -= _length(row)
    return groups


def split(rows: Sequence[Row], size: int, padding: int, layout: Layout, tokens: int | None = None) -> list[MicroBatch]:
    """Return micro-batches with hardly any padding.

    Packed, each takes its share of long and short samples; padded, samples of similar length are together.

    Args:
        rows: samples.
        size: most samples of a micro-batch, unless ``tokens`` is given.
        padding: id of the padding token.
        layout: how samples lie in a row.
        tokens: most tokens of a micro-batch, padding included; a sample that is longer is one of its own.
    """
    ordered = sorted(rows, key=_length)
    if tokens is not None:
        return _within(ordered, padding, layout, tokens)
    if layout == "packed":
        count = -(-len(rows) // size)
        return [collate(ordered[first::count], padding, layout) for first in range(count)]
    return [collate(ordered[begin : begin + size], padding, layout) for begin in range(0, len(ordered), size)]


def _within(ordered: Sequence[Row], padding: int, layout: Layout, tokens: int) -> list[MicroBatch]:
    """Return micro-batches of at most ``tokens``: packed rows of similar length, or samples of similar length."""
    groups = [[row] for row in ordered]
    if layout == "packed":
        groups = _pack(ordered, min(_length(ordered[-1]), tokens)) if ordered else []
        groups.sort(key=lambda group: sum(map(_length, group)))
    batches, begin = [], 0
    for size in fitting([sum(map(_length, group)) for group in groups], tokens):
        batches.append(_laid_out(groups[begin : begin + size], padding, layout))
        begin += size
    return batches


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
        micro_tokens: int | None = None,
        constraint: Constraint | None = None,
        beams: bool = False,
        soft: SoftLabels | None = None,
    ):
        self.builder, self.families, self.chat_format = builder, families, chat_format
        self.batch_size, self.micro_batch_size = batch_size, micro_batch_size
        self.layout: Layout = layout
        self.micro_tokens = micro_tokens
        self.constraint, self.beams, self.soft = constraint, beams, soft
        self._examples: list[Example] = []
        self._epoch = -1
        self._load(0)
        self.steps_per_epoch = max(1, len(self._examples) // batch_size)

    def _load(self, epoch: int) -> None:
        if epoch != self._epoch:
            examples = self.builder.epoch(epoch, self.families)
            order = np.random.default_rng([self.builder.seed, 3, epoch]).permutation(len(examples))
            self._examples, self._epoch = [examples[index] for index in order], epoch

    def load(self, step: int) -> None:
        """Build the epoch that a step belongs to."""
        self._load(step // self.steps_per_epoch)

    def batch(self, step: int) -> list[MicroBatch]:
        """Return the micro-batches of one optimiser step that hold this process's share of the samples."""
        epoch, position = divmod(step, self.steps_per_epoch)
        self._load(epoch)
        begin = position * self.batch_size
        count = len(self._examples)
        examples = [self._examples[index % count] for index in range(begin, begin + min(self.batch_size, count))]
        # Encoded here and not once an epoch: token ids take ten times the memory of their text.
        encoded = encode(examples, self.chat_format, self.constraint, self.beams, self.soft)
        rows = processes.share(sorted(encoded, key=_length))
        return split(rows, self.micro_batch_size, self.chat_format.pad, self.layout, self.micro_tokens)


class Steps(torch.utils.data.Dataset):
    """A range of optimiser steps as a map-style dataset, for Lightning's loaders."""

    def __init__(self, stream: TrainingStream, steps: range):
        self.stream, self.steps = stream, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> list[MicroBatch] | CtrlRecError:
        try:
            return self.stream.batch(self.steps[index])
        except CtrlRecError as error:
            if torch.utils.data.get_worker_info() is None:
                raise
            return error  # which the loader would bury in a traceback
