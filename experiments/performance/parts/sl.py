"""SL against TRL's SFTTrainer: the same model, adapter, precision, samples and order; their loss curves must overlie.

TRL is run at its fastest here: no gradient checkpointing, no packing, one process of data loading.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import Metric

from parts import world

METRICS = (Metric("tokens_per_second", "tokens/s", target=2), Metric("peak_bytes", "bytes", more=False, target=1))
FULL = {"model": ["model=smollm2_135m"], "batch": 8, "steps": 12, "warm": 2}
QUICK = {"model": ["model=llama_mini", "model.hidden_size=64", "model.layers=1"], "batch": 8, "steps": 4, "warm": 1}


def configured(scratch: Path, sizes: world.Sizes) -> Any:
    schedule = (f"sl.batch_size={sizes['batch']}", f"sl.micro_batch_size={sizes['batch']}",
                f"sl.max_steps={sizes['steps']}", "sl.validations=1", "sl.warmup_share=0.1")  # fmt: skip
    return world.compose(scratch, "stage=teacher", "trainer.accelerator=cpu", *sizes["model"], *schedule)


def prepare(scratch: Path, sizes: world.Sizes) -> None:
    world.load(configured(scratch, sizes))


def parts_of(scratch: Path, sizes: world.Sizes) -> tuple[Any, ...]:
    """Configuration, model as SL trains it, its chat format, and the stream of batches."""
    import torch

    from ctrlrec.config.schema import Trainable
    from ctrlrec.lm.adapters import with_adapter
    from ctrlrec.sl.stream import TrainingStream

    config = configured(scratch, sizes)
    builder, chat_format, model = world.load(config)
    torch.manual_seed(config.seed)
    if config.sl.trainable == Trainable.lora:
        model = with_adapter(model, config.sl.lora_rank, config.sl.lora_alpha)
    stream = TrainingStream(builder, config.variant.tasks, chat_format, sizes["batch"], sizes["batch"], "packed")
    return config, model, chat_format, stream


def samples(stream: Any, step: int) -> list[tuple[list[int], list[int]]]:
    """Ids and labels of the samples of one step, taken out of their packed rows."""
    found = []
    for micro in stream.batch(step):
        for ids, labels, places, mask in zip(micro.ids, micro.labels, micro.positions, micro.mask, strict=True):
            starts = [place for place in range(len(ids)) if mask[place] and places[place] == 0]
            for begin, end in zip(starts, [*starts[1:], int(mask.sum())], strict=True):
                found.append((ids[begin:end].tolist(), labels[begin:end].tolist()))
    return found


def summarised(sizes: world.Sizes, times: list[float], losses: list[float], tokens: list[int]) -> dict[str, Any]:
    """Rates after the warm-up; ``times`` holds the end of every step."""
    warm = sizes["warm"]
    seconds = times[-1] - times[warm - 1]
    return {"tokens_per_second": sum(tokens[warm:]) / seconds, "losses": losses, "tokens": sum(tokens)}


def ours(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    from pytorch_lightning.callbacks import Callback

    from ctrlrec.runtime.trainer import trainer
    from ctrlrec.sl.data import SLData
    from ctrlrec.sl.module import SupervisedModule

    config, model, _, stream = parts_of(scratch, sizes)
    times: list[float] = []
    losses: list[float] = []

    class Clock(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            times.append(time.perf_counter())
            losses.append(float(trainer.callback_metrics["train/loss"]))

    module = SupervisedModule(model, config.sl, sizes["steps"], config.seed)
    data = SLData(stream, [], sizes["steps"], config.sl.validations)
    with tempfile.TemporaryDirectory() as name:
        off = {"limit_val_batches": 0, "enable_checkpointing": False}
        fit = trainer(config.trainer, Path(name), [], [Clock()], data.intervals, **off)
        fit.fit(module, datamodule=data)
    tokens = [sum(int(micro.mask.sum()) for micro in stream.batch(step)) for step in range(sizes["steps"])]
    return summarised(sizes, times, losses, tokens) | {"parameters": sum(p.numel() for p in model.parameters())}


def trl(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    from datasets import Dataset
    from torch.optim import Adam
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from ctrlrec.runtime.hardware import precision
    from ctrlrec.sl.module import polynomial_decay

    config, model, chat_format, stream = parts_of(scratch, sizes)
    rows = [row for step in range(sizes["steps"]) for row in samples(stream, step)]
    times: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

        def on_log(self, arguments: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])

    settings, steps = config.sl, sizes["steps"]
    optimizer = Adam([weight for weight in model.parameters() if weight.requires_grad], lr=settings.learning_rate)
    warmup = round(settings.warmup_share * steps)
    schedule = LambdaLR(optimizer, lambda step: polynomial_decay(step, steps, warmup, settings.decay_power))
    with tempfile.TemporaryDirectory() as name:
        told = SFTConfig(
            output_dir=name, per_device_train_batch_size=sizes["batch"], max_steps=steps, max_length=None,
            max_grad_norm=settings.gradient_clip, bf16=precision(config.trainer) == "bf16-mixed", use_cpu=True,
            train_sampling_strategy="sequential", gradient_checkpointing=False, logging_steps=1, save_strategy="no",
            report_to="none", disable_tqdm=True, seed=config.seed,
        )  # fmt: skip
        data = Dataset.from_dict({"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]})
        SFTTrainer(
            model, told, train_dataset=data, processing_class=chat_format.tokenizer, callbacks=[Clock()],
            optimizers=(optimizer, schedule),
        ).train()  # fmt: skip
    batch = sizes["batch"]
    tokens = [sum(len(ids) for ids, _ in rows[begin : begin + batch]) for begin in range(0, len(rows), batch)]
    return summarised(sizes, times, losses, tokens)


def check(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The largest distance between the loss curves, and the distance that they cover."""
    ours, peer = runs["ours"][0]["losses"], runs["peer"][0]["losses"]
    gaps = [abs(left - right) / right for left, right in zip(ours, peer, strict=True)]
    return {"largest_relative_gap_of_losses": max(gaps), "curves_overlie": max(gaps) < 0.02,
            "first_and_last_loss": [ours[0], ours[-1]]}  # fmt: skip


SIDES = {"ours": ours, "peer": trl}
