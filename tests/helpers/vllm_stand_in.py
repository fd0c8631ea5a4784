"""A stand-in that has the interface of vLLM 0.10 and later and answers with transformers and PEFT.

It is as strict as vLLM is documented to be: unknown arguments are errors, adapters are remembered by number, the rank
of an adapter is bounded, logits processors are those of the V1 engine, log-probabilities are of processed logits.
"""

import importlib
import os
import sys
from abc import ABC
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from ctrlrec.lm.scoring import pad

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
RUNNING: list["LLM"] = []  # engines that hold memory
STARTED: list[dict[str, str]] = []  # the environment of each engine's process, which inherits it


class MoveDirectionality(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


class RequestOutputKind(Enum):
    CUMULATIVE = 0
    DELTA = 1
    FINAL_ONLY = 2


@dataclass
class SamplingParams:
    """The fields that are used here; any other is an error."""

    temperature: float = 1.0
    max_tokens: int | None = 16
    stop_token_ids: list[int] = field(default_factory=list)
    seed: int | None = None
    logprobs: int | None = None
    detokenize: bool = True
    output_kind: RequestOutputKind = RequestOutputKind.CUMULATIVE
    extra_args: dict[str, Any] | None = None


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str

    def __post_init__(self) -> None:
        assert self.lora_int_id >= 1 and Path(self.lora_path).is_dir()


@dataclass
class _Request:
    name: str
    prompt: list[int]
    settings: SamplingParams
    lora: LoRARequest | None
    written: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Any]] = field(default_factory=list)
    generator: torch.Generator | None = None


class LLM:
    """Loads what was saved, as vLLM does; its engine answers step by step."""

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        max_model_len: int | None = None,
        seed: int = 0,
        generation_config: str = "auto",
        gpu_memory_utilization: float = 0.9,
        logprobs_mode: str = "raw_logprobs",
        enable_lora: bool = False,
        max_loras: int = 1,
        max_lora_rank: int = 16,
        logits_processors: tuple[str, ...] = (),
        additional_config: dict[str, Any] | None = None,
    ):
        assert generation_config == "vllm" and logprobs_mode == "processed_logprobs"
        assert max_lora_rank in RANKS and max_loras == 1 and 0 < gpu_memory_utilization <= 1
        STARTED.append(dict(os.environ))
        self.memory, self.seed, self.length = gpu_memory_utilization, seed, max_model_len
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
        assert AutoTokenizer.from_pretrained(model).chat_template
        self.largest = max_lora_rank if enable_lora else 0
        self.processors = []
        for place in logits_processors:
            module, name = place.split(":")
            config = SimpleNamespace(additional_config=additional_config)
            self.processors.append(getattr(importlib.import_module(module), name)(config, self.model.device, False))
        RUNNING.append(self)
        self.llm_engine = _Engine(self)


class _Engine:
    """The engine of an ``LLM``: requests join a batch of three rows, leave it and change places in it."""

    def __init__(self, llm: LLM):
        self.llm = llm
        self.engine_core = SimpleNamespace(shutdown=lambda: RUNNING.remove(llm))
        self.waiting: list[_Request] = []
        self.batch: list[_Request | None] = []
        self.adapters: dict[int, PeftModel] = {}
        self.used: list[int] = []  # numbers of adapters, in the order in which they came

    def add_request(
        self, request_id: str, prompt: Any, params: SamplingParams, lora_request: LoRARequest | None = None
    ) -> None:
        tokens = prompt["prompt_token_ids"]
        assert self.llm in RUNNING and 0 < len(tokens) < (self.llm.length or 10**9)
        assert all(request_id != other.name for other in self._known()), "two requests with one id"
        request = _Request(request_id, list(tokens), params, lora_request)
        if params.seed is not None:
            request.generator = torch.Generator().manual_seed(params.seed)
        self.waiting.append(request)

    def _known(self) -> list[_Request]:
        return self.waiting + [request for request in self.batch if request]

    def has_unfinished_requests(self) -> bool:
        return bool(self._known())

    def abort_request(self, names: list[str]) -> None:
        self.waiting = [request for request in self.waiting if request.name not in names]
        self.batch = [None if request and request.name in names else request for request in self.batch]

    def remove_lora(self, number: int) -> bool:
        return self.adapters.pop(number, None) is not None

    def _adapted(self, lora: LoRARequest | None) -> Any:
        """The model with an adapter; a number that came before gives the weights that it had then."""
        if lora is None:
            return self.llm.model
        assert self.llm.largest, "Got lora_request but LoRA is not enabled!"
        if lora.lora_int_id not in self.adapters:
            assert lora.lora_int_id not in self.used
            self.used.append(lora.lora_int_id)
            own = type(self.llm.model)(self.llm.model.config).to(self.llm.model.dtype).eval()
            own.load_state_dict(self.llm.model.state_dict())
            adapted = PeftModel.from_pretrained(own, lora.lora_path)
            assert adapted.peft_config["default"].r <= self.llm.largest
            self.adapters[lora.lora_int_id] = adapted
        return self.adapters[lora.lora_int_id]

    def step(self) -> list[Any]:
        assert self.llm in RUNNING
        added, moved = [], []
        free = [row for row, request in enumerate(self.batch) if request is None]
        while self.waiting and (free or len(self.batch) < 3):  # fewer rows than requests, so that they join and leave
            request = self.waiting.pop(0)
            if not free:
                free.append(len(self.batch))
                self.batch.append(None)
            row = free.pop(0)  # in the place of one that left
            self.batch[row] = request
            added.append((row, request.settings, request.prompt, request.written))
        removed = list(free)
        while free:  # the last rows take the places that are left
            last, row = len(self.batch) - 1, free[0]
            if last in free:
                free.remove(last)
            else:
                free.pop(0)
                self.batch[row] = self.batch[last]
                moved.append((last, row, MoveDirectionality.UNIDIRECTIONAL))
            self.batch.pop()
        rows = [request for request in self.batch if request]
        if len(rows) > 1 and sum(len(row.written) for row in rows) % 5 == 0:  # vLLM reorders now and then
            rows[0], rows[1] = rows[1], rows[0]
            self.batch = list(rows)
            moved.append((0, 1, MoveDirectionality.SWAP))
        update = SimpleNamespace(batch_size=len(rows), removed=removed, added=added, moved=moved)
        logits = self._logits(rows)
        for processor in self.llm.processors:
            assert not processor.is_argmax_invariant()
            processor.update_state(update if removed or added or moved else None)
            logits = processor.apply(logits)
        return [self._finished(request, row) for row, request in zip(logits, rows, strict=True)]

    @torch.no_grad()
    def _logits(self, requests: list[_Request]) -> torch.Tensor:
        """Scores of the next tokens, (rows, V); the requests of a call have one adapter."""
        if not requests:
            return torch.zeros(0, 1)
        model = self._adapted(requests[0].lora)
        assert all(request.lora == requests[0].lora for request in requests)
        ids, mask = pad([[*request.prompt, *request.written] for request in requests], 0)
        scores = model(input_ids=ids, attention_mask=mask).logits.float()
        return scores[torch.arange(len(requests)), mask.sum(1) - 1]  # type: ignore[no-any-return]

    def _finished(self, request: _Request, logits: torch.Tensor) -> Any:
        """Write a token and give the output of the request as it is now."""
        settings = request.settings
        scores = torch.log_softmax(logits / (settings.temperature or 1.0), -1)
        token = int(logits.argmax())
        if settings.temperature:
            token = int(torch.multinomial(scores.exp(), 1, generator=request.generator))
        request.written.append(token)
        request.logprobs.append({token: SimpleNamespace(logprob=float(scores[token]), rank=1)})
        over = token in settings.stop_token_ids or len(request.written) == settings.max_tokens
        if over:
            self.batch[self.batch.index(request)] = None
        assert settings.output_kind == RequestOutputKind.FINAL_ONLY and not settings.detokenize
        output = SimpleNamespace(
            token_ids=tuple(request.written), logprobs=None if settings.logprobs is None else request.logprobs
        )
        return SimpleNamespace(request_id=request.name, finished=over, outputs=[output])


def install_stand_in(patch: pytest.MonkeyPatch) -> None:
    """Have ``import vllm`` give the stand-in."""
    importlib.import_module("ctrlrec.lm.kernels")  # TRL looks for vLLM when it is imported, and is not to find this
    module, lora, parameters, processors = map(
        ModuleType, ("vllm", "vllm.lora.request", "vllm.sampling_params", "vllm.v1.sample.logits_processor")
    )
    module.LLM, module.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    lora.LoRARequest, parameters.RequestOutputKind = LoRARequest, RequestOutputKind  # type: ignore[attr-defined]
    processors.LogitsProcessor = ABC  # type: ignore[attr-defined]
    processors.MoveDirectionality = MoveDirectionality  # type: ignore[attr-defined]
    for made in (module, lora, parameters, processors):
        patch.setitem(sys.modules, made.__name__, made)
    for name in ("vllm.lora", "vllm.v1", "vllm.v1.sample"):
        patch.setitem(sys.modules, name, ModuleType(name))
    patch.delitem(sys.modules, "ctrlrec.generation.vllm_masks", raising=False)
    RUNNING.clear()
    STARTED.clear()
