"""LoRA adapters: one for SL; an actor and a critic on the merged model for RL (spec section 6)."""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open
from safetensors.torch import save
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.indexing import ItemTokens, row_layers
from ctrlrec.runtime.files import write_bytes

log = logging.getLogger(__name__)

ACTOR, CRITIC = "actor", "critic"
_BASE, _SAMPLE = "base.safetensors", 64  # values kept of each weight


def lora(
    rank: int, alpha: int, task: TaskType = TaskType.CAUSAL_LM, rows: dict[str, list[int]] | None = None
) -> LoraConfig:
    """LoRA on all linear layers but the head (Section 3.1.2), and rows of tokens trained beside it, by layer."""
    return LoraConfig(
        task_type=task,
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        trainable_token_indices=rows,  # type: ignore[arg-type]
    )


def with_adapter(model: PreTrainedModel, rank: int, alpha: int, items: ItemTokens | None = None) -> PeftModel:
    """Return the model with one trainable adapter, its own weights frozen except the rows of items.

    Args:
        model: to adapt.
        rank: of the adapter.
        alpha: of the adapter.
        items: the tokens of items; None if there are none.
    """
    task = TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM
    rows = None
    if items is not None:
        tokens = list(range(items.first, items.first + len(items)))
        rows = dict.fromkeys(row_layers(model), tokens)
    return get_peft_model(model, lora(rank, alpha, task, rows))  # type: ignore[return-value]


def with_actor_and_critic(model: PreTrainedModel, rank: int, alpha: int, critic: bool = True) -> PeftModel:
    """Return the model with separate trainable adapters; with all off it is the reference policy.

    Args:
        model: its weights get frozen.
        rank: of each adapter.
        alpha: of each adapter.
        critic: False for an actor alone.
    """
    adapted = get_peft_model(model, lora(rank, alpha), adapter_name=ACTOR)
    if critic:
        adapted.add_adapter(CRITIC, lora(rank, alpha))
    for name, parameter in adapted.named_parameters():
        if ".lora_" in name:
            parameter.requires_grad_(True)
    return adapted  # type: ignore[return-value]


# The layers of each model that hold adapters: a walk over all modules at every switch would cost as much as a pass.
_TUNED: WeakKeyDictionary[torch.nn.Module, list[BaseTunerLayer]] = WeakKeyDictionary()


@contextmanager
def using(model: PeftModel, adapter: str | None) -> Iterator[None]:
    """Run with one adapter, or with none: the reference.

    The adapter stays in force afterwards, because a backward pass may compute layers again. PEFT's own switch also
    turns off the gradients of the other adapters; this one changes no gradient.

    Args:
        model: all its adapters are added, and no layer is replaced later.
        adapter: name of one of them, or None.

    Raises:
        ValueError: for an adapter that the model does not have.
    """
    if adapter is not None and adapter not in model.peft_config:
        raise ValueError(f"no adapter '{adapter}', only {', '.join(model.peft_config)}")
    if model not in _TUNED:
        _TUNED[model] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    layers = _TUNED[model]
    for layer in layers:
        if adapter is None:
            layer._disable_adapters = True
        else:
            layer._active_adapter = [adapter]
    try:
        yield
    finally:
        if adapter is None:
            for layer in layers:
                layer._disable_adapters = False


def trainable_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return what a checkpoint must hold: every tensor that training changes, by name."""
    return {name: parameter.detach() for name, parameter in module.named_parameters() if parameter.requires_grad}


def load_trainable_state(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load what :func:`trainable_state` gave.

    Raises:
        CtrlRecError: if the names are not exactly those of the module's trainable tensors.
    """
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if parameters.keys() != state.keys():
        different = sorted(parameters.keys() ^ state.keys())
        raise CtrlRecError(
            f"the checkpoint belongs to another model: {len(different)} names differ, first {different[0]}"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def sample_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Sample values of every weight by name, float32, to tell two models of one architecture apart."""
    sample = {}
    for name, tensor in model.state_dict().items():
        values = tensor.detach().reshape(-1)
        last = len(values) - 1
        places = torch.linspace(0, last, min(_SAMPLE, len(values)), device=values.device).long()
        sample[name] = values[places.clamp(max=last)].float().cpu()  # above 2^24, float32 rounds past the end
    return sample


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest what a model learns of a tokenizer: which token has which number, and how turns are written."""
    learnt = [sorted(tokenizer.get_vocab().items()), tokenizer.chat_template]
    return hashlib.sha256(json.dumps(learnt, sort_keys=True).encode()).hexdigest()


def save_adapters(
    model: PeftModel, directory: Path, sample: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Write the adapters in PEFT format and ``base.safetensors``: which model and tokenizer they were made for.

    Args:
        model: with one or more adapters.
        directory: to write to.
        sample: of :func:`sample_weights` before they were added.
        tokenizer: that they were trained with.
    """
    for settings in model.peft_config.values():
        settings.target_modules = sorted(settings.target_modules)  # type: ignore[attr-defined]  # a set has no order
    model.save_pretrained(str(directory))
    write_bytes(directory / _BASE, save(sample, metadata={"tokenizer": tokenizer_digest(tokenizer)}))


def check_base(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make sure that adapters meet the model and the tokenizer they were made for.

    Raises:
        CtrlRecError: if they do not; the differences that another precision or machine makes are allowed.
    """
    path = directory / _BASE
    if not path.exists():
        log.warning("%s: does not say which model it was made for; it is of an earlier version", directory)
        return
    with safe_open(path, "pt") as file:
        recorded = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest = file.metadata()["tokenizer"]
    if digest != tokenizer_digest(tokenizer):
        raise CtrlRecError(f"{directory}: these adapters were trained with another tokenizer or chat template")
    sample = sample_weights(model)
    other = sample.keys() ^ recorded.keys() or {
        name
        for name, values in sample.items()
        if values.shape != recorded[name].shape or not torch.allclose(values, recorded[name], rtol=0.01, atol=1e-4)
    }
    if other:
        raise CtrlRecError(
            f"{directory}: these adapters were made for another model: {len(other)} of {len(sample)} weights differ, "
            f"first {min(other)}; check model.path and model.revision"
        )


def attach(model: PreTrainedModel, adapter: Path) -> PeftModel:
    """Return the model with an adapter beside its weights, in float32 whatever theirs is."""
    return PeftModel.from_pretrained(model, str(adapter))  # type: ignore[arg-type,return-value]


def without_adapters(model: PreTrainedModel | PeftModel) -> dict[str, torch.Tensor]:
    """Return the weights under the adapters of a model, by the names that they have in a model without."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return {
        name.replace(".base_layer.", "."): tensor for name, tensor in base.state_dict().items() if ".lora_" not in name
    }


def adapted_layers(model: PreTrainedModel | PeftModel) -> dict[str, LoraLayer]:
    """Return the layers of a model that hold adapters, in force or not, by the names that they have without."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return {name: module for name, module in base.named_modules() if isinstance(module, LoraLayer)}


def save_active(model: PreTrainedModel | PeftModel, directory: Path) -> bool:
    """Write the adapter that is in force in PEFT's format, in float32; return whether there is one.

    Unlike PEFT's own ``save_pretrained`` it also reads a plain model whose layers hold adapters.
    """
    state, settings = {}, None
    for name, layer in adapted_layers(model).items():
        if layer.disable_adapters or layer.merged:
            continue
        (adapter,) = layer.active_adapters
        settings = lora(layer.r[adapter], int(layer.lora_alpha[adapter]))
        for side in ("lora_A", "lora_B"):
            weight = getattr(layer, side)[adapter].weight.detach().float().cpu()
            state[f"base_model.model.{name}.{side}.weight"] = weight.contiguous()
    if settings is None:
        return False
    settings.target_modules = sorted({name.rpartition(".")[2] for name in adapted_layers(model)})  # type: ignore[assignment]
    settings.save_pretrained(str(directory))
    write_bytes(directory / "adapter_model.safetensors", save(state))
    return True


def lost_share(model: PeftModel) -> float:
    """Share of what the active adapter adds to the weights that their precision would round away in :func:`merge`."""
    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    kept = whole = 0.0
    with torch.no_grad():
        for layer in layers:
            weight, change = layer.weight, layer.get_delta_weight(layer.active_adapters[0])
            moved = (weight + change).to(weight.dtype).float() - weight.float()
            kept += float((moved * change).sum())
            whole += float(change.square().sum())
    return 1 - kept / whole if whole else 0.0


def merge(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Return the whole model with an adapter added in float32 and rounded to the weights' type."""
    return attach(model, adapter).merge_and_unload()  # type: ignore[operator]
