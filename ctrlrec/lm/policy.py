"""The model as a stage left it: backbone, then SL, then RL's actor, folded into plain weights."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctrlrec.config import ModelConfig
from ctrlrec.lm.adapters import ACTOR, check_base, merge
from ctrlrec.lm.backbone import load_model, loading_options, model_class


def load_policy(
    config: ModelConfig,
    cache: Path,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    sl: Path | None = None,
    rl: Path | None = None,
) -> PreTrainedModel:
    """The whole model after the stages given.

    Args:
        config: the backbone.
        cache: folder for downloads.
        tokenizer: the backbone's.
        seed: initial weights of a backbone from scratch.
        sl: directory of a finished SL stage; None for the backbone untouched.
        rl: directory of a finished RL stage; its actor is folded in.

    Raises:
        CtrlRecError: where an adapter was made for another model or tokenizer.
    """
    model: PreTrainedModel
    if sl is not None and (sl / "model").exists():
        model = model_class(config).from_pretrained(
            sl / "model", trust_remote_code=False, use_safetensors=True, **loading_options(config)
        )
    else:
        model = load_model(config, cache, tokenizer, seed)
        if sl is not None:
            check_base(sl / "adapter", model, tokenizer)
            model = merge(model, sl / "adapter")
    if sl is not None:  # adapters made for it would carry the path of this machine
        model.name_or_path = model.config.name_or_path = ""
    if rl is not None:
        check_base(rl / "adapter", model, tokenizer)
        model = merge(model, rl / "adapter" / ACTOR)
    return model
