"""A decoder for Llama-like models: the answers of transformers' ``generate`` at a fraction of its cost.

What makes a step cheap: projections are fused, with the active adapters folded into a copy of weights in float32; keys
lie transposed in a cache that is written in place, so that attention of one query is two batched products; every row
counts its own positions, so prompts are padded on the right, need no mask, and a finished row makes room for a waiting
one. Samples of one prompt share its prefill.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch.nn import functional
from transformers import LlamaForCausalLM, MistralForCausalLM, PreTrainedModel, Qwen2ForCausalLM

from ctrlrec.lm.scoring import pad

_ARCHITECTURES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)
_FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")  # the others change with the length of the input
_BLOCK = 64  # the cache grows by this many positions
# Steps between two looks at which answers are complete: each look makes a GPU wait, a complete answer costs its steps.
_PATIENCE = {"cpu": 1}
# Most prompt tokens in one forward pass, padding included: prompts come sorted, so that small passes pad little.
_PREFILL = {"cpu": 1024}
_FEW_ROWS = 64  # up to which several threads are faster with the rows as columns of a float32 product on a CPU


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of a model.

    Attributes:
        tokens: generated ids, the end-of-sequence token included where it was reached.
        log_probs: log-probability of each at the sampling temperature over the full vocabulary; a greedy choice has 0.
    """

    tokens: list[int]
    log_probs: list[float]


def unsupported(model: PreTrainedModel | PeftModel) -> str | None:
    """Why the decoder cannot stand for a model; None where it can."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    settings = base.config
    if type(base) not in _ARCHITECTURES:
        return f"{type(base).__name__} is none of {', '.join(kind.__name__ for kind in _ARCHITECTURES)}"
    if settings.rope_parameters["rope_type"] not in _FIXED_ROTATIONS:
        return f"rotary embeddings of type {settings.rope_parameters['rope_type']} change with the length"
    windows = getattr(settings, "layer_types", None) or ["sliding_attention"]
    if getattr(settings, "sliding_window", None) is not None and "sliding_attention" in windows:
        return "attention slides over a window"
    for name, module in base.named_modules():
        if name.endswith("_proj"):
            plain = module.get_base_layer() if isinstance(module, LoraLayer) else module
            if type(plain) is not torch.nn.Linear:
                return f"{name} is a {type(plain).__name__}"
    return None


def decode(
    model: PreTrainedModel | PeftModel,
    prompts: Sequence[Sequence[int]],
    end: int,
    max_new_tokens: int,
    temperature: float | None = None,
    samples: int = 1,
    rows: int | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Sample]:
    """Answer any number of prompts.

    Products run in autocast's precision where it is on, in the model's otherwise.

    Args:
        model: a supported one, with the adapter to use active.
        prompts: B rows of ids, none empty.
        end: the end-of-sequence token.
        max_new_tokens: longest answer.
        temperature: None decodes greedily; a number samples from the full distribution at it.
        samples: answers to each prompt.
        rows: most answers in the making at a time; None for all.
        progress: called with the number of answers that were just finished.

    Returns:
        B x samples answers; those of one prompt side by side.
    """
    count = len(prompts) * samples
    device = model.device.type
    mixed = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    with torch.inference_mode(), torch.autocast(device, enabled=False):
        batch = _Batch(_Network(model, mixed), min(rows or count, count), end, max_new_tokens, temperature)
        # The longest first: what they take in memory is known at once.
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        queue = deque(index * samples + sample for index in order for sample in range(samples))
        answers: dict[int, Sample] = {}
        while queue or batch.places:
            room = batch.rows - len(batch.places)
            if queue and (8 * room >= batch.rows or not batch.places):
                places = [queue.popleft() for _ in range(min(room, len(queue)))]
                batch.admit(places, [prompts[place // samples] for place in places])
            else:
                batch.step()
            finished = batch.collect()
            answers |= finished
            if finished:
                progress(len(finished))
    return [answers[place] for place in range(count)]


# ---------------------------------------------------------------------- weights


class _Affine(NamedTuple):
    """Linear layers on the same input as one: weight (out, in), bias (out); ``down`` (rank, in) and ``up`` (out, rank).

    The last two are adapters of weights in bfloat16, kept apart: what they add is mostly too small to change a weight.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None


def _adapters(linear: Any) -> Sequence[str]:
    """The active adapters of a linear layer."""
    adapted = isinstance(linear, LoraLayer) and not linear.disable_adapters and not linear.merged
    return linear.active_adapters if adapted else ()


def _folded(linear: Any) -> torch.Tensor:
    """A linear layer's weight with its active adapters."""
    weight: torch.Tensor = linear.weight  # of a layer with adapters: its own, without them
    for adapter in _adapters(linear):
        weight = weight + linear.get_delta_weight(adapter)
    return weight


def _fused(linears: Sequence[Any], dtype: torch.dtype, mixed: torch.dtype | None) -> _Affine:
    """Linear layers on the same input as one whose product runs in ``dtype``; ``mixed`` as of :class:`_Network`."""
    apart = linears[0].weight.dtype != torch.float32 and any(_adapters(linear) for linear in linears)
    weights = [(linear.weight if apart else _folded(linear)).to(dtype) for linear in linears]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    bias = None if linears[0].bias is None else torch.cat([linear.bias.to(dtype) for linear in linears])
    if not apart:
        return _Affine(weight, bias)
    downs = [linear.lora_A[adapter].weight for linear in linears for adapter in _adapters(linear)]
    ups = []
    for linear in linears:
        scaled = [linear.lora_B[adapter].weight * linear.scaling[adapter] for adapter in _adapters(linear)]
        ups.append(torch.cat([linear.weight.new_zeros(len(linear.weight), 0), *scaled], 1))
    low = mixed or downs[0].dtype
    return _Affine(weight, bias, torch.cat(downs).to(low), torch.block_diag(*ups).to(low))


def _linear(states: torch.Tensor, affine: _Affine) -> torch.Tensor:
    """A linear layer (out, in) on states (..., in)."""
    weight, bias, down, up = affine
    few = states.dim() == 2 and len(states) <= _FEW_ROWS
    if not few or states.device.type != "cpu" or states.dtype != torch.float32:
        product = functional.linear(states, weight, bias)
    else:
        product = (weight @ states.T).T
        product = product if bias is None else product + bias
    if down is None or up is None:
        return product
    return (product + functional.linear(functional.linear(states.to(down.dtype), down), up)).to(product.dtype)


class _Layer:
    """One block's weights."""

    def __init__(self, block: Any, dtype: torch.dtype, mixed: torch.dtype | None):
        attention, mlp = block.self_attn, block.mlp
        self.attention_norm, self.mlp_norm = block.input_layernorm, block.post_attention_layernorm
        self.qkv = _fused((attention.q_proj, attention.k_proj, attention.v_proj), dtype, mixed)
        self.out = _fused((attention.o_proj,), dtype, mixed)
        self.gate_up = _fused((mlp.gate_proj, mlp.up_proj), dtype, mixed)
        self.down = _fused((mlp.down_proj,), dtype, mixed)
        self.activation = mlp.act_fn


class _Network:
    """A model's forward pass; the residual stream keeps the model's precision.

    Products run in ``mixed``, autocast's precision; where it is None in the model's, and adapters kept apart in theirs.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, mixed: torch.dtype | None):
        base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        decoder = base.get_decoder()
        self.dtype, self.device = mixed or model.dtype, model.device
        self.embedding = decoder.embed_tokens.weight
        self.layers = [_Layer(block, self.dtype, mixed) for block in decoder.layers]
        self.norm, self.head = decoder.norm, _fused((base.get_output_embeddings(),), self.dtype, mixed)
        attention = decoder.layers[0].self_attn
        self.width = attention.head_dim
        self.heads = base.config.num_attention_heads
        self.kv_heads = base.config.num_key_value_heads
        self.scale = attention.scaling
        self._rotary = decoder.rotary_emb
        self.cos = self.sin = torch.empty(0, self.width, device=self.device)

    def reach(self, length: int) -> None:
        """Have rotations for the positions below ``length``."""
        if len(self.cos) < length:
            cos, sin = self._rotary(self.embedding, torch.arange(length, device=self.device)[None])
            # x cos + rotate_half(x) sin, where the half that is negated carries its sign in the table.
            sin[..., : self.width // 2] *= -1
            self.cos, self.sin = cos[0], sin[0]

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        attend: Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Hidden states (..., H) before the last norm.

        Args:
            ids: (...) tokens.
            positions: broadcasts to (...).
            attend: takes a layer's number, queries (..., heads, D), keys and values (..., kv_heads, D); gives
                (..., heads * D).
        """
        cos, sin = self.cos[positions].unsqueeze(-2), self.sin[positions].unsqueeze(-2)
        hidden = functional.embedding(ids, self.embedding)
        for number, layer in enumerate(self.layers):
            states = _linear(self._normed(hidden, layer.attention_norm), layer.qkv)
            states = states.unflatten(-1, (-1, self.width))
            turned = states[..., : self.heads + self.kv_heads, :].to(cos.dtype)
            turned = torch.addcmul(turned * cos, turned.roll(self.width // 2, -1), sin).to(self.dtype)
            queries, keys = turned.split((self.heads, self.kv_heads), dim=-2)
            mixed = attend(number, queries, keys, states[..., self.heads + self.kv_heads :, :])
            hidden = hidden + _linear(mixed, layer.out)
            gate, up = _linear(self._normed(hidden, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
            hidden = hidden + _linear(layer.activation(gate) * up, layer.down)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """float32 (..., V) of hidden states (..., H)."""
        return _linear(self._normed(hidden, self.norm), self.head).float().contiguous()

    def _normed(self, hidden: torch.Tensor, norm: Any) -> torch.Tensor:
        return functional.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon).to(self.dtype)


# ---------------------------------------------------------------------- batch


def _choose(logits: torch.Tensor, temperature: float | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest token of each row of (B, V), or a sample at the temperature, with its log-probability; both (B,).

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


def _attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Plain attention, (B, kv_heads, Q, D): on a CPU far ahead of the fused kernel for one query and for short prompts.

    Args:
        queries: (B, kv_heads, Q, D); those of all heads that share keys in one dimension.
        keys: (B, kv_heads, D, K), which makes them the right factor as they lie.
        values: (B, kv_heads, K, D).
        mask: added to scaled scores, broadcasts to (B * kv_heads, Q, K).
        scale: of scores.
    """
    flat = queries.reshape(-1, *queries.shape[2:])
    scores = torch.baddbmm(mask.expand(len(flat), *flat.shape[1:-1], -1), flat, keys.flatten(0, 1), alpha=scale)
    return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view_as(queries)


class _Batch:
    """Answers in the making: row i of every tensor is that of ``places[i]``.

    Attributes:
        places: of the answers in the result.
        keys: per layer (rows, kv_heads, D, capacity); likewise ``values`` (rows, kv_heads, capacity, D).
        mask: (rows, kv_heads, 1, capacity) added to scores: 0 at positions that are written, -inf elsewhere.
        length: (rows,) positions written; ``count`` tokens generated, the last of which is not written yet.
        tokens: (rows, longest answer + 1) generated so far; likewise ``log_probs``. The last column is for what answers
            at their limit are given while they wait to be taken out.
        done: (rows,) whether an answer is complete.
    """

    def __init__(self, network: _Network, rows: int, end: int, limit: int, temperature: float | None):
        self.network, self.rows, self.end, self.limit, self.temperature = network, rows, end, limit, temperature
        device = network.device
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
            mixed = _attention(grouped, keys, values, mask, network.scale)
            return mixed.unflatten(2, (group, -1)).permute(0, 3, 1, 2, 4).flatten(2)

        hidden = network.forward(ids, torch.arange(length, device=network.device), attend)
        return hidden[torch.arange(len(prompts), device=network.device), real.sum(1) - 1]

    def step(self) -> None:
        """Write the last token of every answer and give it the next one."""
        network, active = self.network, len(self.places)
        self._longest += 1
        self._reserve(self._longest)
        rows = self._row[:active]
        position = self.length[:active]
        self.mask[rows, :, :, position] = 0
        group = network.heads // network.kv_heads
        # Whole rows, what is not written included: a product over a part of each would copy it first.
        mask = self.mask[:active].flatten(0, 1)

        def attend(number: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            self.keys[number][rows, :, :, position] = keys
            self.values[number][rows, :, position] = values
            grouped = queries.unflatten(1, (-1, group))
            mixed = _attention(grouped, self.keys[number][:active], self.values[number][:active], mask, network.scale)
            return mixed.flatten(1)

        states = network.forward(self.tokens[rows, self.count[:active] - 1], position, attend)
        self.length[:active] += 1
        self._append(network.logits(states), slice(0, active))

    def collect(self) -> dict[int, Sample]:
        """Take complete answers out, once they are enough to be worth the moving; the last rows fill their places."""
        self._steps += 1
        active = len(self.places)
        if self._steps % self._patience:
            return {}
        if 16 * int(self.done[:active].sum()) < active:
            return {}
        done = self.done[:active].tolist()
        left = [row for row in range(active) if done[row]]
        tokens, log_probs = self.tokens[left].tolist(), self.log_probs[left].tolist()
        finished = {}
        for row, ids, scores in zip(left, tokens, log_probs, strict=True):
            ids = ids[: self.limit]
            size = ids.index(self.end) + 1 if self.end in ids else self.limit
            finished[self.places[row]] = Sample(ids[:size], scores[:size])
        remaining = active - len(left)
        holes = [row for row in left if row < remaining]
        movers = [row for row in range(remaining, active) if not done[row]]
        for hole, mover in zip(holes, movers, strict=True):
            self.places[hole] = self.places[mover]
        del self.places[remaining:]
        if holes:
            for tensor in (
                *self.keys, *self.values, self.mask, self.length, self.count, self.tokens, self.log_probs, self.done,
            ):  # fmt: skip
                tensor[holes] = tensor[movers]
        self._longest = int(self.length[:remaining].max()) if remaining else 0
        return finished

    def _append(self, logits: torch.Tensor, rows: slice) -> None:
        tokens, log_probs = _choose(logits, self.temperature)
        row, count = self._row[rows], self.count[rows]
        self.tokens[row, count], self.log_probs[row, count] = tokens, log_probs
        count.add_(1).clamp_(max=self.limit)
        self.done[rows] |= (tokens == self.end) | (count >= self.limit)

    def _reserve(self, length: int) -> None:
        """Have room for ``length`` positions; what is not written is zero, for a weight of zero must meet no NaN."""
        more = length - self.mask.shape[-1]
        if more <= 0:
            return
        more = -(-more // _BLOCK) * _BLOCK
        self.keys = [functional.pad(keys, (0, more)) for keys in self.keys]
        self.values = [functional.pad(values, (0, 0, 0, more)) for values in self.values]
        self.mask = functional.pad(self.mask, (0, more), value=-torch.inf)
        self.network.reach(self.mask.shape[-1])
