"""The weights and the forward pass of Llama-like models, as the decoder uses them.

Projections on the same input are fused. Active adapters are folded into a copy of the weights if products run in
float32, and stay beside them otherwise.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch.nn import functional
from transformers import LlamaForCausalLM, MistralForCausalLM, PreTrainedModel, Qwen2ForCausalLM

_ARCHITECTURES = (LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM)
_FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn")  # the others change with the length of the input
_FEW_ROWS = 64  # up to which several threads are faster with the rows as columns of a float32 product on a CPU


def unsupported(model: PreTrainedModel | PeftModel) -> str | None:
    """Return why the decoder cannot stand for a model; None if it can."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    settings = base.config
    if type(base) not in _ARCHITECTURES:
        return f"{type(base).__name__} is not one of {', '.join(kind.__name__ for kind in _ARCHITECTURES)}"
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


class _Affine(NamedTuple):
    """Linear layers on the same input as one: weight (out, in), bias (out); ``down`` (rank, in) and ``up`` (out, rank).

    The last two are adapters kept apart if products run in bfloat16, in which most of what they add would be rounded
    away in a weight. If ``down`` alone is None, the last rows of ``weight`` are it.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    down: torch.Tensor | None = None
    up: torch.Tensor | None = None


def _adapters(linear: Any) -> Sequence[str]:
    """Return the active adapters of a linear layer."""
    adapted = isinstance(linear, LoraLayer) and not linear.disable_adapters and not linear.merged
    return linear.active_adapters if adapted else ()


def _folded(linear: Any) -> torch.Tensor:
    """Return a linear layer's weight with its active adapters."""
    weight: torch.Tensor = linear.weight  # of a layer with adapters: its own, without them
    for adapter in _adapters(linear):
        weight = weight + linear.get_delta_weight(adapter)
    return weight


def _fused(linears: Sequence[Any], dtype: torch.dtype, mixed: torch.dtype | None) -> _Affine:
    """Return linear layers on one input as one whose product runs in ``dtype``; ``mixed`` as of :class:`Network`."""
    apart = dtype != torch.float32 and any(_adapters(linear) for linear in linears)
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
    down, up = torch.cat(downs).to(low), torch.block_diag(*ups).to(low)
    if low == dtype != linears[0].weight.dtype:  # the weights are a copy in any case, and one product does for both
        bias = bias if bias is None else functional.pad(bias, (0, len(down)))
        return _Affine(torch.cat([weight, down]), bias, None, up)
    return _Affine(weight, bias, down, up)


def _linear(states: torch.Tensor, affine: _Affine) -> torch.Tensor:
    """Apply a linear layer (out, in) to states (..., in)."""
    weight, bias, down, up = affine
    few = states.dim() == 2 and len(states) <= _FEW_ROWS
    if not few or states.device.type != "cpu" or states.dtype != torch.float32:
        product = functional.linear(states, weight, bias)
    else:
        product = (weight @ states.T).T
        product = product if bias is None else product + bias
    if up is None:
        return product
    if down is None:
        product, low = product.split(up.shape, -1)
    else:
        low = functional.linear(states.to(down.dtype), down)
    return (product + functional.linear(low, up)).to(product.dtype)


def attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, scale: float
) -> torch.Tensor:
    """Return plain attention, (B, kv_heads, Q, D): on a CPU faster than the fused kernel for short prompts.

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


class Network:
    """A model's forward pass; the residual stream keeps the model's precision.

    Products run in ``mixed``, autocast's precision; if it is None, in the model's, and adapters kept apart in theirs.
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
        """Return hidden states (..., H) before the last norm.

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
