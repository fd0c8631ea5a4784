"""A stand-in that has vLLM's interface and answers with transformers."""

import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer


class LLM:
    """Loads what was saved, as vLLM does, and generates greedily."""

    def __init__(self, model: str, max_model_len: int, seed: int, generation_config: str):
        assert generation_config == "vllm" and max_model_len == 640 and seed == 7
        self.model = AutoModelForCausalLM.from_pretrained(model).eval()
        assert AutoTokenizer.from_pretrained(model).chat_template

    def generate(self, prompts: Sequence[dict[str, Any]], settings: Any, use_tqdm: bool) -> list[Any]:
        import torch

        assert settings.temperature == 0.0
        replies = []
        for prompt in prompts:
            ids = torch.tensor([prompt["prompt_token_ids"]])
            written = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=settings.max_tokens,
                eos_token_id=settings.stop_token_ids, pad_token_id=0,
            )  # fmt: skip
            replies.append(
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(written[0, ids.shape[1] :].tolist()))])
            )
        return replies


def install_stand_in(patch: pytest.MonkeyPatch) -> None:
    """Have ``import vllm`` give the stand-in."""
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SimpleNamespace  # type: ignore[attr-defined]
    patch.setitem(sys.modules, "vllm", module)
