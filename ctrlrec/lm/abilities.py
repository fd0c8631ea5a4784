"""Find what a backbone cannot do from its configuration, before anything is trained.

The model is made on the meta device, which holds no values: it takes a second and no memory, whatever its size.
"""

import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ctrlrec.config.schema import Config, ModelConfig, Trainable
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.adapters import with_adapter
from ctrlrec.lm.backbone import load_settings, model_class
from ctrlrec.runtime.user import cache_folder

_FOLDABLE = (torch.nn.Linear, Conv1D)
# Settings of architectures that change logits after the head, which learning computes by itself; the neutral values.
_BEHIND_THE_HEAD = {"final_logit_softcapping": None, "logit_scale": 1, "logits_scaling": 1, "lm_head_multiplier": 1}


def check_abilities(config: Config) -> None:
    """Refuse a pretrained backbone that cannot do what a row needs of it.

    Raises:
        CtrlRecError: naming the backbone, what it lacks and what to do.
    """
    needs = {"training"} if config.variant.tasks else set()
    if config.variant.rl or (config.variant.tasks and config.sl.trainable == Trainable.lora):
        needs.add("adapters")
    check_model(config.model, cache_folder(config.cache), needs)


def empty_model(config: ModelConfig, cache: Path) -> PreTrainedModel:
    """Return a pretrained backbone without values, on the meta device."""
    with torch.device("meta"):
        return model_class(config).from_config(load_settings(config, cache))


def check_model(config: ModelConfig, cache: Path, needs: Collection[str]) -> None:
    """Refuse a pretrained backbone that cannot do what is needed.

    Args:
        config: which backbone.
        cache: folder for downloads.
        needs: any of "training" and "adapters".

    Raises:
        CtrlRecError: naming the backbone, what it lacks and what to do.
    """
    model = empty_model(config, cache)
    settings: Any = model.config.get_text_config()
    name = f"model {config.path or config.name} ({model.config.model_type})"
    positions = getattr(settings, "max_position_embeddings", None)
    if config.kind != "encoder_decoder" and positions is not None and positions < config.max_length:
        raise CtrlRecError(
            f"model.max_length={config.max_length}: {name} has {positions} positions; set "
            f"model.max_length={positions} and model.max_response_length to at most half of it"
        )
    if "training" in needs and config.kind != "encoder_decoder":
        _check_training(model, settings, name)
    if "adapters" in needs:
        _check_adapters(model, name)


def _check_training(model: PreTrainedModel, settings: Any, name: str) -> None:
    """Refuse a model whose log-probabilities decoder and head do not give, or that cannot tell samples apart."""
    advice = "use another backbone, or a row that trains none, such as variant=zero_shot"
    for key, neutral in _BEHIND_THE_HEAD.items():
        value = getattr(settings, key, neutral)
        if value is not None and value != neutral:
            raise CtrlRecError(f"{name}: {key}={value} changes logits after the head, which is not supported; {advice}")
    decoder: Any = model.get_decoder()
    try:
        inspect.signature(decoder.forward).bind(input_ids=0, attention_mask=0, position_ids=0, use_cache=False)
    except (AttributeError, TypeError):
        raise CtrlRecError(
            f"{name}: it takes no positions or no attention mask, without which samples cannot be batched; {advice}"
        ) from None


def _check_adapters(model: PreTrainedModel, name: str) -> None:
    """Refuse a model whose layers cannot all take an adapter that can be folded in again."""
    advice = "use a dense backbone whose layers are plain linear ones"
    try:
        adapted = with_adapter(model, 1, 1)
    except Exception as error:  # PEFT raises several kinds for layers that it does not support
        reason = " ".join(str(error).split())[:200]
        raise CtrlRecError(f"{name}: its layers take no adapter ({reason}); {advice}") from None
    for place, layer in adapted.named_modules():
        if isinstance(layer, LoraLayer) and not isinstance(layer.get_base_layer(), _FOLDABLE):
            kind = type(layer.get_base_layer()).__name__
            where = place.removeprefix("base_model.model.")
            raise CtrlRecError(f"{name}: {where} is a {kind}, whose adapter cannot be folded in; {advice}")
