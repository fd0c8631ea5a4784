"""vLLM in process, an optional extra: ``pip install ctrlrec[vllm]``.

It holds a copy of the model's weights without adapters. The active adapter is written again at each call and
passed beside them as a LoRA request with a number of its own: merged into bfloat16 weights, most of it would be lost.

Of several processes each starts its own vLLM, on its own GPU. vLLM computes in a child process.
"""

import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from ctrlrec.config.schema import Config
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.engines.base import Engine, Prompt, Sample, Setup, starts
from ctrlrec.lm.adapters import adapted_layers, save_active, without_adapters
from ctrlrec.runtime import launcher

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # of which vLLM takes one for its largest adapter
_SEEDS = 2**31
_MULTIPROCESSING = "VLLM_ENABLE_V1_MULTIPROCESSING"


class VLLM(Engine):
    """Answers with an engine of vLLM, started at the first question."""

    local = False
    encoder_decoders = False

    def __init__(self, setup: Setup):
        super().__init__(setup)
        assert setup.model is not None
        self.model = setup.model
        self._engine: Any = None
        self._constraint: Constraint | None = None
        self._calls = 0

    @classmethod
    def check(cls, config: Config, cache: Path) -> None:
        """Refuse a run without vLLM, and several processes whose engines are not processes of their own."""
        if find_spec("vllm") is None:
            raise CtrlRecError(
                "generation.engine=vllm: vLLM is not installed: pip install 'ctrlrec[vllm]', or generation.engine=auto"
            )
        if launcher.count() > 1 and os.environ.get(_MULTIPROCESSING) == "0":
            raise CtrlRecError(
                f"{_MULTIPROCESSING}=0 with generation.engine=vllm in {launcher.count()} processes: each vLLM needs a "
                f"process of its own, which is shown one GPU; unset {_MULTIPROCESSING}, or use generation.engine=auto"
            )

    def _answers(
        self, prompts: Sequence[Prompt], samples: int, temperature: float | None, constraint: Constraint | None
    ) -> Iterator[tuple[int, Sample]]:
        starts(prompts, constraint)  # refuses here what would stop vLLM's process
        if constraint is not None and constraint is not self._constraint:
            self.close()  # because the processor of its logits is chosen at its start
        if self._engine is None:
            self._start(constraint)
        engine = self._engine
        with tempfile.TemporaryDirectory() as folder:
            self._calls += 1
            adapter = self._adapter(Path(folder))
            waiting: dict[str, int] = {}
            try:
                for place, settings in enumerate(self._settings(prompts, samples, temperature, constraint)):
                    name, prompt = f"{self._calls}-{place}", prompts[place // samples]
                    tokens = {"prompt_token_ids": prompt.tokens}
                    engine.add_request(name, tokens, settings, lora_request=adapter)
                    waiting[name] = place
                while waiting:
                    for output in engine.step():
                        if output.finished:
                            yield waiting.pop(output.request_id), _sample(output.outputs[0])
            finally:
                if engine is self._engine:  # otherwise it was shut down meanwhile, with all that it held
                    engine.abort_request(list(waiting))
                    if adapter is not None:
                        engine.remove_lora(adapter.lora_int_id)

    def _start(self, constraint: Constraint | None) -> None:
        """Start vLLM on a copy of the weights.

        Raises:
            CtrlRecError: if vLLM cannot be imported, or its kernels cannot hold the adapters.
        """
        try:
            from vllm import LLM

            from ctrlrec.generation.vllm_masks import engine_settings
        except ImportError as error:
            raise CtrlRecError(
                f"generation.engine=vllm: vLLM cannot be imported ({error}); pip install 'ctrlrec[vllm]', or use "
                "generation.engine=auto"
            ) from None
        setup, base = self.setup, self.model
        plain: Any = base.get_base_model() if isinstance(base, PeftModel) else base
        chat_format = setup.chat_format
        options: dict[str, Any] = {}
        if setup.memory_share is not None:
            options["gpu_memory_utilization"] = setup.memory_share
        if layers := adapted_layers(base):
            if base.dtype == torch.float32 and torch.cuda.is_available():
                raise CtrlRecError(
                    "generation.engine=vllm model.dtype=float32: on a GPU vLLM adds adapters to 16-bit weights alone; "
                    "set model.dtype=bfloat16 or generation.engine=auto"
                )
            largest = max(rank for layer in layers.values() for rank in dict(layer.r).values())
            options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": next(r for r in _RANKS if r >= largest)}
        with tempfile.TemporaryDirectory() as folder:
            plain.save_pretrained(folder, state_dict=without_adapters(base))
            chat_format.whole_tokenizer().save_pretrained(folder)
            if constraint is not None:
                options |= engine_settings(constraint, Path(folder) / "constraint")
            with launcher.on_its_own():
                self._engine = LLM(
                    model=folder,
                    dtype=str(base.dtype).removeprefix("torch."),
                    max_model_len=chat_format.config.max_length,
                    seed=setup.seed,
                    generation_config="vllm",  # a checkpoint's own sampling settings bend nothing
                    logprobs_mode="processed_logprobs",  # at the temperature, among the allowed tokens
                    **options,
                ).llm_engine
        self._constraint = constraint

    def _adapter(self, folder: Path) -> Any:
        """Return a new LoRA request for the adapter that is in force; None if none is."""
        if not save_active(self.model, folder):
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(f"adapter-{self._calls}", self._calls, str(folder))

    def _settings(
        self, prompts: Sequence[Prompt], samples: int, temperature: float | None, constraint: Constraint | None
    ) -> Iterator[Any]:
        """Yield the settings of each request; samples draw from torch's random stream, through a seed of their own."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from ctrlrec.generation.vllm_masks import request_settings

        seeds = torch.randint(_SEEDS, (len(prompts) * samples,)).tolist() if temperature is not None else []
        for place in range(len(prompts) * samples):
            settings: dict[str, Any] = {"temperature": 0.0}
            if temperature is not None:
                settings = {"temperature": temperature, "logprobs": 0, "seed": seeds[place]}
            instruction = prompts[place // samples].instruction
            if constraint is not None and instruction is not None:
                settings["extra_args"] = request_settings(instruction)
            yield SamplingParams(
                max_tokens=self.setup.max_new_tokens,
                stop_token_ids=sorted(self.setup.chat_format.ends),
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                **settings,
            )

    def close(self) -> None:
        """Stop vLLM, whose memory would otherwise stay taken until garbage is collected."""
        if self._engine is not None:
            self._engine.engine_core.shutdown()
            self._engine = None
            gc.collect()
            torch.cuda.empty_cache()


def _sample(output: Any) -> Sample:
    """Return an answer of vLLM; without log-probabilities it was greedy."""
    tokens = list(output.token_ids)
    if output.logprobs is None:
        return Sample(tokens, [0.0] * len(tokens))
    return Sample(tokens, [at[token].logprob for at, token in zip(output.logprobs, tokens, strict=True)])


ENGINE = VLLM
