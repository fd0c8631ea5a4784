"""Greedy answers from vLLM in process, an optional extra: ``pip install ctrlrec[vllm]``."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ctrlrec.controls.instruction import Instruction
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.lm.chat_format import ChatFormat


def vllm_generator(
    model: PreTrainedModel, chat_format: ChatFormat, max_length: int, seed: int, constraint: Constraint | None = None
) -> Callable[..., list[list[int]]]:
    """Return a function that answers prompts greedily.

    It takes prompts (rows of ids), the longest answer and, under a constraint, the instructions; it gives rows of
    generated ids.

    Args:
        model: with adapters folded in; vLLM reads it from a temporary folder and the object is no longer needed.
        chat_format: of the model.
        max_length: prompt and answer together.
        seed: of the engine.
        constraint: what may be written; None for anything.

    Raises:
        CtrlRecError: if vLLM is not installed.
    """
    try:
        from vllm import LLM, SamplingParams

        from ctrlrec.generation.vllm_masks import engine_settings, request_settings
    except ImportError as error:
        raise CtrlRecError(
            f"generation.engine=vllm: vLLM cannot be imported ({error}); pip install 'ctrlrec[vllm]', or take engine=hf"
        ) from None
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        chat_format.whole_tokenizer().save_pretrained(folder)
        # "vllm" as source of the defaults: a checkpoint's own sampling settings bend nothing
        masks: dict[str, Any] = {}
        if constraint is not None:
            masks = engine_settings(constraint, Path(folder) / "constraint")
        engine = LLM(model=folder, max_model_len=max_length, seed=seed, generation_config="vllm", **masks)

    def generate(
        prompts: Sequence[list[int]], max_new_tokens: int, instructions: Sequence[Instruction] = ()
    ) -> list[list[int]]:
        settings = {"temperature": 0.0, "max_tokens": max_new_tokens, "stop_token_ids": sorted(chat_format.ends)}
        greedy: Any = SamplingParams(**settings)
        if constraint is not None:
            greedy = [SamplingParams(**settings, extra_args=request_settings(asked)) for asked in instructions]
        replies = engine.generate([{"prompt_token_ids": row} for row in prompts], greedy, use_tqdm=False)
        return [list(reply.outputs[0].token_ids) for reply in replies]

    return generate
