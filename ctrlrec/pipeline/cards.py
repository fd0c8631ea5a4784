"""Cards and published shapes of backbones, for forecasts."""

from dataclasses import dataclass
from typing import Any

from transformers import LlamaConfig, PretrainedConfig, Qwen3Config

MEASURED, ESTIMATE = "measured", "estimate"


@dataclass(frozen=True)
class Card:
    """A GPU: memory in GB, bfloat16 products in TFLOP/s, memory traffic in TB/s, and where the last two are from."""

    memory: float
    products: float
    traffic: float
    source: str


# H100: as a benchmark reached. Others: the same share of their data sheets as the H100 reached of its own.
CARDS = {
    "h100": Card(80, 798, 3.0, MEASURED),
    "h200": Card(141, 798, 4.3, ESTIMATE),
    "a100": Card(80, 250, 1.8, ESTIMATE),
    "a100_40gb": Card(40, 250, 1.4, ESTIMATE),
    "l40s": Card(48, 290, 0.77, ESTIMATE),
    "rtx4090": Card(24, 130, 0.9, ESTIMATE),
}
# Published shapes, for where a configuration cannot be fetched.
_LLAMA31: dict[str, Any] = {
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
_QWEN3: dict[str, Any] = {
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "intermediate_size": 12288,
    "vocab_size": 151936,
}
_SMOLLM2: dict[str, Any] = {
    "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip
SHAPES: dict[str, PretrainedConfig] = {
    "smollm2_wheel": LlamaConfig(**_SMOLLM2),
    "meta-llama/Llama-2-7b-chat-hf": LlamaConfig(),
    "meta-llama/Llama-3.1-8B-Instruct": LlamaConfig(**_LLAMA31),
    "Qwen/Qwen3-8B": Qwen3Config(**_QWEN3, hidden_size=4096, num_attention_heads=32, head_dim=128),
}
