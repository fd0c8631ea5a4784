"""LoRA adapters: one for SL; an actor and a critic on the merged model for RL (spec section 6)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import PreTrainedModel

ACTOR, CRITIC = "actor", "critic"


def lora(rank: int, alpha: int) -> LoraConfig:
    """LoRA on all linear layers but the head (Section 3.1.2)."""
    return LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear"
    )


def with_adapter(model: PreTrainedModel, rank: int, alpha: int) -> PeftModel:
    """The model with one trainable adapter, its own weights frozen."""
    return get_peft_model(model, lora(rank, alpha))  # type: ignore[return-value]


def with_actor_and_critic(model: PreTrainedModel, rank: int, alpha: int) -> PeftModel:
    """The model with two separate trainable adapters; with both off it is the reference policy."""
    adapted = get_peft_model(model, lora(rank, alpha), adapter_name=ACTOR)
    adapted.add_adapter(CRITIC, lora(rank, alpha))
    train_adapters(adapted)  # type: ignore[arg-type]
    return adapted  # type: ignore[return-value]


def train_adapters(model: PeftModel) -> None:
    """Let every adapter weight, active or not, receive gradients."""
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.requires_grad_(True)


@contextmanager
def using(model: PeftModel, adapter: str | None) -> Iterator[None]:
    """Run with one adapter, or with none: the reference.

    PEFT turns the gradients of the other adapters off when it switches; they are turned on again, because actor and
    critic learn in the same step.
    """
    if adapter is None:
        with model.disable_adapter():
            yield
    else:
        model.base_model.set_adapter(adapter)  # type: ignore[operator]
        train_adapters(model)
        yield
    train_adapters(model)


def trainable_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint must hold: every tensor that training changes, by name."""
    return {name: parameter.detach() for name, parameter in module.named_parameters() if parameter.requires_grad}


def load_trainable_state(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Load what :func:`trainable_state` gave.

    Raises:
        KeyError: where the names are not exactly those of the module's trainable tensors.
    """
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if parameters.keys() != state.keys():
        different = sorted(parameters.keys() ^ state.keys())
        raise KeyError(f"the checkpoint belongs to another model: {len(different)} names differ, first {different[0]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def merge(model: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """The whole model with an adapter folded in; folded in float32, because bfloat16 would round it away."""
    dtype = model.dtype
    adapted = PeftModel.from_pretrained(model.to(torch.float32), str(adapter))  # type: ignore[arg-type]
    return adapted.merge_and_unload().to(dtype)
