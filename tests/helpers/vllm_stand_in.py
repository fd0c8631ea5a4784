"""A stand-in that has vLLM's interface and answers with transformers, logits processors of its V1 engine included."""

import importlib
import sys
from abc import ABC
from collections.abc import Sequence
from enum import Enum, auto
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer


class MoveDirectionality(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


class LLM:
    """Loads what was saved, as vLLM does, and generates greedily."""

    def __init__(self, model: str, max_model_len: int, seed: int, generation_config: str, **engine: Any):
        assert generation_config == "vllm" and max_model_len == 640 and seed == 7
        self.model = AutoModelForCausalLM.from_pretrained(model).eval()
        assert AutoTokenizer.from_pretrained(model).chat_template
        self.processors = []
        for place in engine.pop("logits_processors", ()):
            module, name = place.split(":")
            config = SimpleNamespace(additional_config=engine["additional_config"])
            self.processors.append(getattr(importlib.import_module(module), name)(config, self.model.device, False))

    def generate(self, prompts: Sequence[dict[str, Any]], settings: Any, use_tqdm: bool) -> list[Any]:
        import torch

        each = settings if isinstance(settings, list) else [settings] * len(prompts)
        assert len(each) == len(prompts) and all(one.temperature == 0.0 for one in each)
        written: list[list[int]] = [[] for _ in prompts]
        batch: list[int] = []  # the request in each row of the persistent batch
        waiting, free = list(range(len(prompts))), list[int]()
        while waiting or len(free) < len(batch):
            added, moved = [], []
            while waiting and (free or len(batch) < 3):  # fewer rows than requests, so that they join and leave
                request = waiting.pop(0)
                if not free:
                    free.append(len(batch))
                    batch.append(-1)
                row = free.pop(0)  # in the place of one that left
                batch[row] = request
                added.append((row, each[request], prompts[request]["prompt_token_ids"], written[request]))
            removed = list(free)
            while free:  # the last rows take the places that are left
                last, row = len(batch) - 1, free[0]
                if last in free:
                    free.remove(last)
                else:
                    free.pop(0)
                    batch[row] = batch[last]
                    moved.append((last, row, MoveDirectionality.UNIDIRECTIONAL))
                batch.pop()
            if len(batch) > 1 and sum(map(len, written)) % 5 == 0:  # vLLM reorders now and then
                batch[0], batch[1] = batch[1], batch[0]
                moved.append((0, 1, MoveDirectionality.SWAP))
            update = SimpleNamespace(batch_size=len(batch), removed=removed, added=added, moved=moved)
            rows = [[*prompts[request]["prompt_token_ids"], *written[request]] for request in batch]
            with torch.no_grad():
                logits = torch.stack([self.model(input_ids=torch.tensor([row])).logits[0, -1] for row in rows])
            for processor in self.processors:
                assert not processor.is_argmax_invariant()
                processor.update_state(update if removed or added or moved else None)
                logits = processor.apply(logits)
            for row, token in enumerate(logits.argmax(-1).tolist()):
                tokens, limits = written[batch[row]], each[batch[row]]
                tokens.append(token)
                if token in limits.stop_token_ids or len(tokens) == limits.max_tokens:
                    free.append(row)
        return [SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(tokens))]) for tokens in written]


def install_stand_in(patch: pytest.MonkeyPatch) -> None:
    """Have ``import vllm`` give the stand-in."""
    module, processors = ModuleType("vllm"), ModuleType("vllm.v1.sample.logits_processor")
    module.LLM, module.SamplingParams = LLM, SimpleNamespace  # type: ignore[attr-defined]
    processors.LogitsProcessor = ABC  # type: ignore[attr-defined]
    processors.MoveDirectionality = MoveDirectionality  # type: ignore[attr-defined]
    for name in ("vllm", "vllm.v1", "vllm.v1.sample"):
        patch.setitem(sys.modules, name, module if name == "vllm" else ModuleType(name))
    patch.setitem(sys.modules, "vllm.v1.sample.logits_processor", processors)
    patch.delitem(sys.modules, "ctrlrec.generation.vllm_masks", raising=False)
