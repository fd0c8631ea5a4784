"""Runs SL: adapts the backbone, keeps the checkpoint with the best validation loss."""

import logging
import math
from pathlib import Path

import torch
from peft import PeftModel
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from transformers import PreTrainedModel

from ctrlrec.config.schema import Config, Trainable
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import load_trainable_state, sample_weights, save_adapters, with_adapter
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.footprint import token_budget
from ctrlrec.lm.head import is_chunked
from ctrlrec.lm.indexing import start_from_teacher
from ctrlrec.lm.layers import checkpoint_activations, compile_layers, repeated_layers
from ctrlrec.lm.scoring import check_head, keeps_apart
from ctrlrec.runtime import processes
from ctrlrec.runtime.hardware import autocast, device
from ctrlrec.runtime.trainer import train, trainer
from ctrlrec.sl.data import SLData
from ctrlrec.sl.module import SupervisedModule
from ctrlrec.sl.soft import SoftLabels
from ctrlrec.sl.stream import Layout, TrainingStream, encode, split

log = logging.getLogger(__name__)


def fine_tune(
    config: Config,
    model: PreTrainedModel,
    chat_format: ChatFormat,
    builder: InstructionBuilder,
    directory: Path,
    loggers: list[Logger],
) -> None:
    """Fine-tune and leave ``adapter/`` (PEFT format) or, if all weights are trained, ``model/``.

    Args:
        config: everything.
        model: the backbone before training.
        chat_format: its prompt format.
        builder: gives the instructions of every epoch and the validation set.
        directory: where checkpoints and the result go; training resumes from a checkpoint found there.
        loggers: of this stage.

    Raises:
        CtrlRecError: if all of the weights are to be trained in less than float32, a process would be without a
            sample, or the validation loss is not finite.
    """
    settings = config.sl
    if settings.trainable == Trainable.full and model.dtype != torch.float32:
        raise CtrlRecError(
            f"sl.trainable=full: steps of sl.learning_rate={settings.learning_rate:g} would be lost in weights of "
            f"{model.dtype}; set model.dtype=float32, or sl.trainable=lora"
        )
    items = chat_format.items
    if items is not None and config.model.kind == "llama_mini":
        start_from_teacher(model, items, builder.ranker.model.item_embedding.weight[: len(items)], config.seed)
    # The checks are of the kernels that training uses, which another device or precision would not take.
    model = model.to(device(config.trainer))  # type: ignore[arg-type,assignment]
    with autocast(config.trainer):
        if not chat_format.encoder_decoder:
            check_head(model)
        layout = _layout(model, chat_format)
    log.info("%-12s samples lie %s in a row", "", "several" if layout == "packed" else "one")
    base = sample_weights(model)
    model.train()  # for a backbone with dropout: it was loaded ready to answer
    if config.trainer.compile:
        compile_layers(model)
    if config.trainer.activation_checkpointing:
        checkpoint_activations(model)
    if config.trainer.strategy == "fsdp":
        if settings.batch_size < processes.count():
            raise CtrlRecError(
                f"sl.batch_size={settings.batch_size} leaves some of {processes.count()} processes without a sample; "
                "under trainer.strategy=fsdp all must take part in every step"
            )
        processes.shard_frozen(model, repeated_layers(model), config.trainer)
    trained: PreTrainedModel | PeftModel = model
    if settings.trainable == Trainable.lora:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            trained = with_adapter(model, settings.lora_rank, settings.lora_alpha, items)
    size = settings.micro_batch_size
    tokens = token_budget(settings.micro_tokens, model, config.trainer, "sl")
    constraint, beams = None, config.variant.beam_search
    if settings.constrained:
        constraint = make_constraint(config.constraint, builder.catalogue, chat_format)
        if constraint is not None:
            constraint.limit = None  # labels are given, whatever they take of an answer
    soft = None
    if settings.soft_labels is not None and items is not None:
        soft = SoftLabels(builder.catalogue, builder.ranker, items, settings.soft_labels)
    stream = TrainingStream(
        builder, config.variant.tasks, chat_format, settings.batch_size, size, layout, tokens, constraint, beams, soft
    )
    by_task: dict[str, list] = {}
    for example in builder.validation():
        by_task.setdefault(example.instruction.task, []).append(example)
    validation = [
        (task, split(encode(examples, chat_format, constraint, beams, soft), size, chat_format.pad, layout, tokens))
        for task, examples in by_task.items()
    ]
    total_steps = settings.max_steps or settings.epochs * stream.steps_per_epoch
    first = items.first if items else 0
    module = SupervisedModule(trained, settings, total_steps, builder.seed, first, is_chunked(config.trainer))
    data = SLData(stream, validation, total_steps, settings.validations, config.trainer.workers)
    checkpoints = directory / "checkpoints"
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor="validation/loss",
        save_weights_only=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    fit = trainer(
        config.trainer,
        directory,
        loggers,
        [best, last],
        max_epochs=data.intervals,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    train(fit, module, checkpoints, data)
    # Of the checkpoint, and not of this attempt: one that was killed after its last step has nothing left to validate.
    if best.best_model_score is None or not math.isfinite(best.best_model_score):
        raise CtrlRecError("the validation loss is not finite: lower sl.learning_rate")
    state = torch.load(checkpoints / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    module.cpu()
    load_trainable_state(module, state)
    if processes.rank():
        return
    if isinstance(trained, PeftModel):
        save_adapters(trained, directory / "adapter", base, chat_format.tokenizer)
    else:
        trained.save_pretrained(directory / "model")


def _layout(model: PreTrainedModel, chat_format: ChatFormat) -> Layout:
    if chat_format.encoder_decoder:
        return "encoder_decoder"
    return "packed" if keeps_apart(model) else "padded"
