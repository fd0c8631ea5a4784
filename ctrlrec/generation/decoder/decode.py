"""A decoder for Llama-like models: the answers of transformers' ``generate`` at a fraction of its cost.

Steps are cheap because of fused projections (:mod:`ctrlrec.generation.decoder.network`); keys lie transposed in a cache
that is written in place, so that attention of one query is two batched products; every row counts its own positions, so
prompts are padded on the right, need no mask, and a finished row makes room for a waiting one. Samples of one prompt
share its prefill.
"""

from collections import deque
from collections.abc import Collection, Container, Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional
from transformers import PreTrainedModel

from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.decoder.network import Network, attention
from ctrlrec.generation.sample import Sample, answer_length
from ctrlrec.lm.scoring import pad

# Positions by which the cache grows; on a GPU it has its capacity at once, as growing leaves holes in the memory.
_BLOCK = {"cpu": 64}
# Steps between two looks at which answers are complete: each look makes a GPU wait, a complete answer costs its steps.
_PATIENCE = {"cpu": 1}
# Most prompt tokens in one forward pass, padding included: prompts come sorted, so that small passes pad little.
_PREFILL = {"cpu": 1024}
_CAPTURED = ("cuda",)  # devices on which a step without a constraint is one graph


def decode(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    ends: Collection[int],
    max_new_tokens: int,
    temperature: float | None = None,
    samples: int = 1,
    rows: int | None = None,
    constraint: Constraint | None = None,
    starts: Sequence[Any] = (),
    finished: Container[int] = (),
) -> Iterator[tuple[int, Sample]]:
    """Answer any number of prompts and yield each answer with its place once it is finished.

    Products run in autocast's precision if it is on, in the model's otherwise. The caller's autocast and gradient mode
    stay as they are between answers.

    Args:
        model: a supported one, with the adapter to use active.
        prompts: B rows of ids, none empty.
        ends: tokens that end an answer.
        max_new_tokens: longest answer.
        temperature: None decodes greedily; a number samples from the full distribution at it.
        samples: answers to each prompt.
        rows: most answers in the making at a time; None for all.
        constraint: what may be written; None for anything.
        starts: B states of the constraint before an answer.
        finished: places that are not answered again.

    Returns:
        Places among B x samples answers, those of one prompt side by side, and the answers.
    """
    from ctrlrec.generation.decoder import forced, graphs  # whose batches extend the one of this module

    device = model.device.type
    mixed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    # The longest first: what they take in memory is known at once.
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    places = [index * samples + sample for index in order for sample in range(samples)]
    queue = deque(place for place in places if place not in finished)
    if not queue:
        return
    size, longest = min(rows or len(places), len(queue)), len(prompts[queue[0] // samples])
    kind = forced.RunBatch if constraint is not None else graphs.GraphBatch if device in _CAPTURED else _Batch
    batch = None
    while queue or (batch and batch.places):
        with torch.inference_mode(), torch.autocast(device, enabled=False):
            if batch is None:
                network = Network(model, mixed)
                batch = kind(network, size, ends, max_new_tokens, longest, temperature, constraint)
            complete: dict[int, Sample] = {}
            while not complete:
                room = batch.rows - len(batch.places)
                if queue and (8 * room >= batch.rows or not batch.places):
                    admitted = [queue.popleft() for _ in range(min(room, len(queue)))]
                    batch.states += [starts[place // samples] if starts else None for place in admitted]
                    batch.admit(admitted, [prompts[place // samples] for place in admitted])
                else:
                    batch.step()
                complete = batch.collect()
        yield from complete.items()


def _choose(logits: torch.Tensor, temperature: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the likeliest token of each row of (B, V), or a sample, with its log-probability; both (B,).

    Samples invert the cumulated distribution, in float64 so that the rarest token keeps its share: one random number a
    row, where an exponential race draws one for every token of the vocabulary.
    """
    if temperature is None:
        return logits.argmax(-1), torch.zeros(len(logits), device=logits.device)
    probabilities = torch.softmax(logits / temperature, -1)
    cumulated = probabilities.cumsum(-1, dtype=torch.float64)
    drawn = torch.rand(len(logits), 1, dtype=torch.float64, device=logits.device) * cumulated[:, -1:]
    tokens = torch.searchsorted(cumulated, drawn, right=True).clamp_(max=logits.shape[1] - 1)
    return tokens[:, 0], probabilities.gather(1, tokens)[:, 0].log()


class _Batch:
    """Answers in the making: row i of every tensor is that of ``places[i]``.

    Attributes:
        places: of the answers in the result.
        states: of the constraint; None without one.
        keys: per layer (rows, kv_heads, D, capacity); likewise ``values`` (rows, kv_heads, capacity, D).
        mask: (rows, kv_heads, 1, capacity) added to scores: 0 at positions that are written, -inf elsewhere.
        length: (rows,) positions written; ``count`` tokens generated, the last of which is not written yet.
        capacity: most positions of a row: its prompt and its answer.
        tokens: (rows, longest answer + 1) generated so far; likewise ``log_probs``. The last column is for what answers
            at their limit are given while they wait to be taken out.
        done: (rows,) whether an answer is complete.
    """

    def __init__(
        self,
        network: Network,
        rows: int,
        ends: Collection[int],
        limit: int,
        longest: int,
        temperature: float | None,
        constraint: Constraint | None,
    ):
        self.network, self.rows, self.limit, self.temperature = network, rows, limit, temperature
        self.constraint, self.capacity = constraint, longest + limit
        self.states: list[Any] = []
        device = network.device
        self.ends = torch.tensor(sorted(ends), device=device)
        self._patience = _PATIENCE.get(device.type, 8)
        self.places: list[int] = []
        shape = (rows, network.kv_heads)
        options: dict[str, Any] = {"dtype": network.dtype, "device": device}
        self.keys = [torch.zeros(*shape, network.width, 0, **options) for _ in network.layers]
        self.values = [torch.zeros(*shape, 0, network.width, **options) for _ in network.layers]
        self.mask = torch.zeros(*shape, 1, 0, **options)
        self.length = torch.zeros(rows, dtype=torch.long, device=device)
        self.count = torch.zeros_like(self.length)
        self.tokens = torch.zeros(rows, limit + 1, dtype=torch.long, device=device)
        self.log_probs = torch.zeros(rows, limit + 1, device=device)
        self.done = torch.zeros(rows, dtype=torch.bool, device=device)
        self._row = torch.arange(rows, device=device)
        self._longest = self._steps = 0

    def admit(self, places: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        """Read prompts, longest first, into free rows and give each its first token; equal neighbours are read once."""
        begin = len(self.places)
        self.places += places
        self._longest = max(self._longest, *(len(prompt) for prompt in prompts))
        self._reserve(self._longest)
        distinct: list[Sequence[int]] = []
        owner = []
        for prompt in prompts:
            if not distinct or prompt is not distinct[-1]:
                distinct.append(prompt)
            owner.append(len(distinct) - 1)
        owners = torch.tensor(owner, device=self.network.device)
        most = _PREFILL.get(self.network.device.type, 4096)
        last, first = [], 0
        while first < len(distinct):
            size = max(1, most // len(distinct[first]))
            here = (owners >= first) & (owners < first + size)
            rows = begin + torch.nonzero(here)[:, 0]
            last.append(self._prefill(distinct[first : first + size], owners[here] - first, rows))
            first += size
        added = slice(begin, len(self.places))
        self.length[added] = torch.tensor([len(prompt) for prompt in prompts], device=self.network.device)
        self.count[added], self.done[added] = 0, False
        written = torch.arange(self.mask.shape[-1], device=self.network.device) < self.length[added, None]
        self.mask[added] = torch.where(written, 0.0, -torch.inf)[:, None, None].to(self.mask.dtype)
        self._append(self.network.logits(torch.cat(last))[owners], added)

    def _prefill(self, prompts: Sequence[Sequence[int]], owners: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Write keys and values of prompts into ``rows``, row i from prompt ``owners[i]``; last hidden states (P, H).

        Prompts are padded on the right: causal attention keeps padding out, and answers overwrite it.
        """
        network = self.network
        ids, real = (tensor.to(network.device) for tensor in pad(prompts, 0))
        length = ids.shape[1]
        group = network.heads // network.kv_heads
        causal = torch.full((length, length), -torch.inf, dtype=network.dtype, device=network.device).triu(1)
        mask = causal.repeat(group, 1)

        def attend(number: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            keys, values = keys.permute(0, 2, 3, 1).contiguous(), values.transpose(1, 2).contiguous()
            self.keys[number][rows, ..., :length] = keys[owners]
            self.values[number][rows, :, :length] = values[owners]
            grouped = queries.unflatten(2, (-1, group)).permute(0, 2, 3, 1, 4).flatten(2, 3)
            mixed = attention(grouped, keys, values, mask, network.scale)
            return mixed.unflatten(2, (group, -1)).permute(0, 3, 1, 2, 4).flatten(2)

        hidden = network.forward(ids, torch.arange(length, device=network.device), attend)
        return hidden[torch.arange(len(prompts), device=network.device), real.sum(1) - 1]

    def step(self) -> None:
        """Write the last token of every answer and give it the next one."""
        self._longest = min(self._longest + 1, self.capacity)
        self._reserve(self._longest)
        self._advance(len(self.places))

    def _advance(self, active: int) -> None:
        """Make the step of the first rows, all on the device and in place."""
        network, rows = self.network, self._row[:active]
        position = self.length[:active]
        self.mask[rows, :, :, position] = 0
        group = network.heads // network.kv_heads
        # Whole rows, what is not written included: a product over a part of each would copy it first.
        mask = self.mask[:active].flatten(0, 1)

        def attend(number: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            self.keys[number][rows, :, :, position] = keys
            self.values[number][rows, :, position] = values
            grouped = queries.unflatten(1, (-1, group))
            mixed = attention(grouped, self.keys[number][:active], self.values[number][:active], mask, network.scale)
            return mixed.flatten(1)

        states = network.forward(self.tokens[rows, self.count[:active] - 1], position, attend)
        # An answer at its limit that waits to be taken out writes its last position over and over.
        self.length[:active].add_(1).clamp_(max=self.capacity - 1)
        self._append(network.logits(states), slice(0, active))

    def collect(self) -> dict[int, Sample]:
        """Take complete answers out, once they are enough to be worth the moving; the last rows fill their places."""
        self._steps += 1
        active = len(self.places)
        if self._steps % self._patience or 16 * int(self.done[:active].sum()) < active:
            return {}
        done = self.done[:active].tolist()
        left = [row for row in range(active) if done[row]]
        tokens, log_probs = self.tokens[left].tolist(), self.log_probs[left].tolist()
        ends = self.ends.tolist()
        finished = {}
        for row, ids, scores in zip(left, tokens, log_probs, strict=True):
            ids = ids[: self.limit]
            size = answer_length(ids, ends)
            finished[self.places[row]] = Sample(ids[:size], scores[:size])
        remaining = active - len(left)
        holes = [row for row in left if row < remaining]
        movers = [row for row in range(remaining, active) if not done[row]]
        for hole, mover in zip(holes, movers, strict=True):
            self.places[hole], self.states[hole] = self.places[mover], self.states[mover]
        del self.places[remaining:], self.states[remaining:]
        if holes:
            for tensor in self._by_row():
                tensor[holes] = tensor[movers]
        self._longest = int(self.length[:remaining].max()) if remaining else 0
        return finished

    def _by_row(self) -> tuple[torch.Tensor, ...]:
        """Return every tensor whose rows are answers."""
        parts = (self.mask, self.length, self.count, self.tokens, self.log_probs, self.done)
        return (*self.keys, *self.values, *parts)

    def _append(self, logits: torch.Tensor, rows: slice) -> None:
        tokens, log_probs = _choose(logits, self.temperature)
        row, count = self._row[rows], self.count[rows]
        self.tokens[row, count], self.log_probs[row, count] = tokens, log_probs
        count.add_(1).clamp_(max=self.limit)
        self.done[rows] |= (tokens[:, None] == self.ends).any(-1) | (count >= self.limit)

    def _reserve(self, length: int) -> None:
        """Have room for ``length`` positions; what is not written is zero, for a weight of zero must meet no NaN."""
        more = length - self.mask.shape[-1]
        if more <= 0:
            return
        block = _BLOCK.get(self.network.device.type)
        more = self.capacity - self.mask.shape[-1] if block is None else -(-more // block) * block
        for layer in range(len(self.keys)):  # one after the other: both old and new would take twice the memory
            self.keys[layer] = functional.pad(self.keys[layer], (0, more))
            self.values[layer] = functional.pad(self.values[layer], (0, 0, 0, more))
        self.mask = functional.pad(self.mask, (0, more), value=-torch.inf)
        self.network.reach(self.mask.shape[-1])
