"""Run RL: add an actor and, for some algorithms, a critic to the merged SL model and leave their adapters."""

from pathlib import Path

import torch
from peft import PeftModel
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from safetensors.torch import save_file
from transformers import PreTrainedModel

from ctrlrec.config.engines import sampling_engine
from ctrlrec.config.schema import Config, ConstraintConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.engines import Engine, Setup, make_engine
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import load_trainable_state, sample_weights, save_adapters, with_actor_and_critic
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.footprint import token_budget
from ctrlrec.lm.head import is_chunked
from ctrlrec.lm.layers import checkpoint_activations, compile_layers
from ctrlrec.lm.scoring import check_head
from ctrlrec.rewards.reward import Reward
from ctrlrec.rl.algorithms import ALGORITHMS
from ctrlrec.rl.algorithms.base import Outset, Outside
from ctrlrec.rl.data import RLData
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.rollout import Sampler
from ctrlrec.runtime import processes
from ctrlrec.runtime.files import read_jsonl
from ctrlrec.runtime.hardware import autocast, device
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
    """Align a model and leave its adapters and rollouts.

    The folder then holds ``rollouts.jsonl``, ``adapter/actor`` and, for an algorithm with a critic, ``adapter/critic``
    and ``value_head.safetensors``. With ``rl.validate_every`` they are those of the iteration with the best validation
    reward, otherwise of the last one.

    Args:
        config: everything.
        model: the model after SL, adapters folded in.
        chat_format: its prompt format.
        builder: gives the prompts of every iteration and the validation questions.
        directory: where checkpoints and the result go; training resumes from a checkpoint that lies there.
        loggers: of this stage.
    """
    model = model.to(device(config.trainer))  # type: ignore[arg-type,assignment]
    with autocast(config.trainer):
        check_head(model)
    base = sample_weights(model)
    if config.trainer.compile:
        compile_layers(model)
    if config.trainer.activation_checkpointing:
        checkpoint_activations(model)
    chosen = ALGORITHMS[config.rl.algorithm.name]
    if issubclass(chosen, Outside):
        with _engine(config, model, chat_format) as engine:
            sampler = Sampler(engine, builder.catalogue, builder.ranker, Reward(config.reward))
            adapted = chosen.train(Outset(config, model, builder, sampler, directory, loggers))
    else:
        adapted = _train_with_lightning(config, model, chat_format, builder, directory, loggers)
    if processes.rank():
        return
    columns = ("iteration", "task", "user", "category", "response", "illegal", "item_reward", "list_reward")
    log_answers(loggers, read_jsonl(directory / "rollouts.jsonl"), columns)
    save_adapters(adapted, directory / "adapter", base, chat_format.tokenizer)


def _engine(config: Config, model: PreTrainedModel | PeftModel, chat_format: ChatFormat) -> Engine:
    """Return what samples: a model that gets adapters later answers with the one that is active then."""
    share, limit = config.rl.memory_share, config.model.max_response_length
    return make_engine(sampling_engine(config), Setup(chat_format, limit, model, seed=config.seed, memory_share=share))


def _train_with_lightning(
    config: Config,
    model: PreTrainedModel,
    chat_format: ChatFormat,
    builder: InstructionBuilder,
    directory: Path,
    loggers: list[Logger],
) -> PeftModel:
    """Return the model with its trained adapters; the value head of a critic is written at once."""
    constraint = None
    if config.rl.constrained:
        constraint = make_constraint(config.constraint, builder.catalogue, chat_format)
    if constraint is not None and config.rl.validate_every is not None:
        for question in builder.validation_questions():
            constraint.start(question)  # refuses now what it would refuse after hours
    guide = make_constraint(ConstraintConfig(config.rl.guided_row), builder.catalogue, chat_format)
    if guide is None and config.rl.guided_row != "none":
        raise CtrlRecError(
            f"rl.guided_row={config.rl.guided_row}: it rules nothing out and cannot guide; use rl.guided_row=control"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        critic = ALGORITHMS[config.rl.algorithm.name].critic
        adapted = with_actor_and_critic(model, config.rl.lora_rank, config.rl.lora_alpha, critic)
        engine = _engine(config, adapted, chat_format)
        module = RLModule(
            adapted, chat_format, builder, Reward(config.reward), config.rl, engine, directory, constraint, guide
        )
    taken = 0.0 if engine.local else config.rl.memory_share
    module.micro_tokens = token_budget(config.rl.micro_tokens, model, config.trainer, "rl", taken)
    module.chunked_head = is_chunked(config.trainer)
    checkpoints, every = directory / "checkpoints", config.rl.validate_every
    last = ModelCheckpoint(checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor="validation/reward",
        mode="max",
        save_weights_only=True,
        save_on_train_epoch_end=False,  # but after validation, which not every iteration has
        enable_version_counter=False,
    )
    fit = trainer(
        config.trainer,
        directory,
        loggers,
        [last] if every is None else [best, last],
        max_epochs=config.rl.iterations,
        checkpoint_every=config.trainer.checkpoint_every,
        reload_dataloaders_every_n_epochs=1,
        check_val_every_n_epoch=every or 1,
        limit_val_batches=0 if every is None else 1.0,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    if not (checkpoints / "last.ckpt").exists():
        module.rollouts.path.unlink(missing_ok=True)  # rows of an attempt that never reached a checkpoint
    with engine:
        train(fit, module, checkpoints, RLData(builder, config.rl, config.generation.batch_size))
    module.cpu()
    if every is not None:
        state = torch.load(checkpoints / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
        load_trainable_state(module, state)
    if module.value_head is not None and not processes.rank():
        save_file(
            {"weight": module.value_head.weight.data, "bias": module.value_head.bias.data},
            directory / "value_head.safetensors",
        )
    return adapted
