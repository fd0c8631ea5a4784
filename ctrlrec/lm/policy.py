"""The model as a stage left it: backbone, then SL, then RL's actor, folded into plain weights if nothing is lost."""

import logging
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctrlrec.config.schema import ModelConfig
from ctrlrec.lm.adapters import ACTOR, attach, check_base, lost_share, merge
from ctrlrec.lm.backbone import load_model, loading_options, model_class
from ctrlrec.lm.indexing import ItemTokens

log = logging.getLogger(__name__)

_LOST = 0.05  # of an adapter, above which folding it in logs a warning


def load_policy(
    config: ModelConfig,
    cache: Path,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    sl: Path | None = None,
    rl: Path | None = None,
    fold: bool = False,
    items: ItemTokens | None = None,
) -> PreTrainedModel:
    """Load the whole model after the stages given.

    Args:
        config: the backbone, of :func:`ctrlrec.runtime.hardware.settled`.
        cache: folder for downloads.
        tokenizer: the backbone's.
        seed: initial weights of a backbone from scratch.
        sl: directory of a finished SL stage; None for the backbone untouched.
        rl: directory of a finished RL stage; its actor is folded into float32 weights and stays beside others, for what
            it adds to a weight in bfloat16 is mostly too small to change it.
        fold: fold it in nevertheless, for what reads plain weights alone; log it if much of it is lost.
        items: the tokens of items; None if there are none.

    Raises:
        CtrlRecError: if an adapter was made for another model or tokenizer.
    """
    model: PreTrainedModel
    if sl is not None and (sl / "model").exists():
        model = model_class(config).from_pretrained(
            sl / "model", trust_remote_code=False, use_safetensors=True, **loading_options(config)
        )
    else:
        model = load_model(config, cache, tokenizer, seed, items)
        if sl is not None:
            check_base(sl / "adapter", model, tokenizer)
            model = merge(model, sl / "adapter")
    if sl is not None:  # adapters made for it would carry the path of this machine
        model.name_or_path = model.config.name_or_path = ""
    if rl is not None:
        check_base(rl / "adapter", model, tokenizer)
        adapted = attach(model, rl / "adapter" / ACTOR)
        if not fold and model.dtype != torch.float32:
            return adapted.get_base_model()  # type: ignore[return-value]
        lost = lost_share(adapted)
        if lost > _LOST:
            log.warning(
                "%s: %.0f%% of what its actor adds to the weights is too small for %s and lost in folding; to keep it, "
                "merge the sl stage instead and serve that with adapter/%s beside it, as LoRA",
                rl, 100 * lost, str(model.dtype).removeprefix("torch."), ACTOR,
            )  # fmt: skip
        model = adapted.merge_and_unload()  # type: ignore[operator]
    return model
