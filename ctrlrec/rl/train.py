"""Runs RL: adds actor and critic to the merged SL model and leaves their adapters."""

from pathlib import Path

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from safetensors.torch import save_file
from transformers import PreTrainedModel

from ctrlrec.config.compose import sampling_engine
from ctrlrec.config.schema import Config
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import sample_weights, save_adapters, with_actor_and_critic
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.layers import checkpoint_activations
from ctrlrec.lm.scoring import check_head
from ctrlrec.rewards.schemes import SCHEMES
from ctrlrec.rl.module import PPOModule
from ctrlrec.runtime import processes
from ctrlrec.runtime.files import read_jsonl
from ctrlrec.runtime.loggers import log_answers
from ctrlrec.runtime.trainer import train, trainer


def align(
    config: Config,
    model: PreTrainedModel,
    chat_format: ChatFormat,
    builder: InstructionBuilder,
    directory: Path,
    loggers: list[Logger],
) -> None:
    """Align with PPO and leave ``adapter/actor``, ``adapter/critic``, ``value_head.safetensors``, ``rollouts.jsonl``.

    Args:
        config: everything.
        model: the model after SL, adapters folded in.
        chat_format: its prompt format.
        builder: gives the prompts of every iteration.
        directory: where checkpoints and the result go; a checkpoint found there is gone on from.
        loggers: of this stage.
    """
    check_head(model)
    base = sample_weights(model)
    if config.trainer.activation_checkpointing:
        checkpoint_activations(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        adapted = with_actor_and_critic(model, config.rl.lora_rank, config.rl.lora_alpha)
        module = PPOModule(
            adapted,
            chat_format,
            builder,
            SCHEMES[config.reward.name],
            config.rl,
            config.variant.item_rewards,
            config.model.max_response_length,
            sampling_engine(config),
            directory,
            make_constraint(config.constraint, builder.catalogue, chat_format),
        )
    checkpoints = directory / "checkpoints"
    last = ModelCheckpoint(checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    fit = trainer(
        config.trainer,
        directory,
        loggers,
        [last],
        max_epochs=config.rl.iterations,
        reload_dataloaders_every_n_epochs=1,
        log_every_n_steps=1,
    )
    if not (checkpoints / "last.ckpt").exists():
        module.rollouts.unlink(missing_ok=True)  # rows of an attempt that never reached a checkpoint
    train(fit, module, checkpoints)
    module.cpu()
    if processes.rank():
        return
    columns = ("iteration", "task", "user", "category", "response", "illegal", "item_reward", "list_reward")
    log_answers(loggers, read_jsonl(module.rollouts), columns)
    save_adapters(adapted, directory / "adapter", base, chat_format.tokenizer)
    save_file(
        {"weight": module.value_head.weight.data, "bias": module.value_head.bias.data},
        directory / "value_head.safetensors",
    )
