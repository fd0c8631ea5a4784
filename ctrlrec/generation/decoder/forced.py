"""The decoder's batch under a constraint: tokens that are forced take no step of their own.

A step reads the last token that was chosen and all that are forced after it. Rows read different numbers of tokens:
these lie one after the other in all products, and are padded for attention alone.
"""

from typing import Any

import torch

from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.decoder.decode import _Batch
from ctrlrec.generation.decoder.network import attention


class RunBatch(_Batch):
    """Answers in the making under a constraint.

    Attributes:
        pending: (rows,) tokens that the next step reads: the last chosen one, and those forced after it.
    """

    constraint: Constraint

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.pending = torch.ones_like(self.length)

    def step(self) -> None:
        """Read the pending tokens of every answer and choose its next one."""
        network, active = self.network, len(self.places)
        pending, length = self.pending[:active], self.length[:active]
        most = int(pending.max())
        self._longest = min(int((length + pending).max()), self.capacity)
        self._reserve(self._longest)
        row = self._row[:active].repeat_interleave(pending)
        place = torch.arange(len(row), device=network.device) - (pending.cumsum(0) - pending)[row]
        position = length[row] + place
        self.mask[row, :, :, position] = 0
        group = network.heads // network.kv_heads
        # A token sees what is before it, and not the tokens that are read with it and stand after it.
        last = length[:, None] + torch.arange(most, device=network.device)
        behind = torch.arange(self.mask.shape[-1], device=network.device) > last[..., None]
        mask = self.mask[:active].masked_fill(behind[:, None], -torch.inf).repeat_interleave(group, 2).flatten(0, 1)

        def attend(number: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            self.keys[number][row, :, :, position] = keys
            self.values[number][row, :, position] = values
            padded = queries.new_zeros(active, most, *queries.shape[1:])
            padded[row, place] = queries
            grouped = padded.unflatten(2, (-1, group)).permute(0, 2, 1, 3, 4).flatten(2, 3)
            mixed = attention(grouped, self.keys[number][:active], self.values[number][:active], mask, network.scale)
            return mixed.unflatten(2, (most, group)).permute(0, 2, 1, 3, 4).flatten(2)[row, place]

        unread = self.count[:active] - pending
        hidden = network.forward(self.tokens[row, unread[row] + place], position, attend)
        # An answer at its limit that waits to be taken out writes its last position over and over.
        self.length[:active].add_(pending).clamp_(max=self.capacity - 1)
        self._append(network.logits(hidden[pending.cumsum(0) - 1]), slice(0, active))

    def _append(self, logits: torch.Tensor, rows: slice) -> None:
        """Choose the next token of some rows, and write what is forced after it."""
        begin, count = rows.start, self.count[rows].clone()
        super()._append(self.constraint.restrict(self.states[rows], logits), rows)
        chosen = self.tokens[self._row[rows], count].tolist()
        self.states[rows] = self.constraint.follow(self.states[rows], chosen)
        counts, done = self.count[rows].tolist(), self.done[rows].tolist()
        self.pending[rows] = 1
        forced: list[tuple[int, int, int]] = []  # row, column, token
        for row, (written, complete) in enumerate(zip(counts, done, strict=True), start=begin):
            if complete or self.states[row] is None:
                continue
            run, self.states[row] = self.constraint.forced(self.states[row], self.limit - written)
            if run:
                forced += [(row, written + place, token) for place, token in enumerate(run)]
                self.count[row] += len(run)
                self.pending[row] += len(run)
                self.done[row] = written + len(run) >= self.limit or self.states[row] is None
        if forced:
            places, columns, tokens = torch.tensor(forced, device=self.network.device).T
            self.tokens[places, columns], self.log_probs[places, columns] = tokens, 0.0

    def _by_row(self) -> tuple[torch.Tensor, ...]:
        return (*super()._by_row(), self.pending)
