"""The Lightning module of SL: response-only loss averaged over all response tokens of a global batch."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from torch.nn import functional

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import SLConfig
from ctrlrec.generation.constraints.base import restricted
from ctrlrec.lm.adapters import load_trainable_state, trainable_state
from ctrlrec.lm.head import by_chunks, has_kernel, likelihoods
from ctrlrec.lm.layers import repeated_layers
from ctrlrec.lm.scoring import packed_hidden_states
from ctrlrec.runtime import processes
from ctrlrec.runtime.faults import refuse
from ctrlrec.runtime.optimizers import fused
from ctrlrec.sl.optimizers import Muon
from ctrlrec.sl.soft import soft_loss
from ctrlrec.sl.stream import IGNORED, Choices, MicroBatch


def response_loss(
    model: torch.nn.Module,
    batch: MicroBatch,
    first_item: int = 0,
    allowed_weight: float = 0.0,
    chunked_head: bool = False,
    sharpness: float = 1.0,
) -> tuple[torch.Tensor, int]:
    """Return the summed loss of the response tokens and their number.

    The loss is the cross-entropy, and that of :func:`ctrlrec.sl.soft.soft_loss` at soft labels. The head runs on the
    positions that predict a response token and on no other; the decoder of an encoder-decoder has no others.

    Args:
        model: the language model.
        batch: samples.
        first_item: the token of the first item, for soft labels.
        allowed_weight: ``sl.allowed_weight``.
        chunked_head: whether the scores of few tokens exist at a time; not of an encoder-decoder.
        sharpness: factor on the scores of soft labels; their temperature is divided by it.
    """
    if model.config.is_encoder_decoder:  # type: ignore[union-attr]
        predicted = batch.labels != IGNORED
        scores = model(input_ids=batch.ids, attention_mask=batch.mask, labels=batch.labels, use_cache=False).logits
        return _cross_entropy(scores[predicted].float(), batch.labels[predicted], batch.choices), int(predicted.sum())
    hidden = packed_hidden_states(model, batch.ids, batch.positions)[:, :-1]  # type: ignore[arg-type]
    targets = batch.labels[:, 1:]
    predicted = targets != IGNORED
    hidden, wanted = hidden[predicted], targets[predicted]
    soft = batch.soft
    if chunked_head and soft is None and batch.choices is None and has_kernel(model):  # type: ignore[arg-type]
        return -likelihoods(model, hidden, wanted)[0].sum(), len(wanted)  # type: ignore[arg-type]
    numbers = None if soft is None else soft.at[:, 1:][predicted]

    def loss_of(scores: torch.Tensor, at: slice) -> torch.Tensor:
        if soft is None or numbers is None:
            return _cross_entropy(scores, wanted[at], None if batch.choices is None else batch.choices[at])
        number = numbers[at]
        hard, label = number < 0, number[number >= 0]
        log_probs = torch.log_softmax(scores, -1)
        of_items = log_probs[~hard, first_item : first_item + soft.scores.shape[1]]
        loss = -log_probs[hard].gather(1, wanted[at][hard, None]).sum()
        return loss + soft_loss(
            of_items, sharpness * soft.scores[soft.lists[label]], soft.allowed[label], allowed_weight
        )

    parts = by_chunks(model, hidden, loss_of, chunked_head)  # type: ignore[arg-type]
    return sum(parts[1:], parts[0]), len(wanted)


def _cross_entropy(scores: torch.Tensor, targets: torch.Tensor, choices: Choices | None) -> torch.Tensor:
    """Return the summed cross-entropy of N tokens with scores (N, V), among those that a constraint allows."""
    if choices is not None:
        scores = restricted(scores, choices)
    return functional.cross_entropy(scores, targets, reduction="sum")


def polynomial_decay(step: int, total: int, warmup: int, power: float) -> float:
    """Learning-rate factor: linear warm-up over ``warmup`` steps, then (1 - progress)^power, zero at ``total``."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, 1 - (step - warmup) / max(1, total - warmup)) ** power


class SupervisedModule(pl.LightningModule):
    """Train a language model on batches of :class:`ctrlrec.sl.data.SLData`.

    One training step is one optimiser step over a whole batch, one Lightning epoch one validation interval.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        config: SLConfig,
        total_steps: int,
        seed: int,
        first_item: int = 0,
        chunked_head: bool = False,
    ):
        super().__init__()
        self.save_hyperparameters({"sl": plain(config), "total_steps": total_steps, "seed": seed}, logger=False)
        self.automatic_optimization = False
        self.strict_loading = False  # checkpoints hold the trainable tensors alone; on_load_checkpoint compares names
        self.model, self.config, self.total_steps, self.seed = model, config, total_steps, seed
        self.first_item, self.chunked_head = first_item, chunked_head
        self._losses: dict[str, list[tuple[float, int]]] = defaultdict(list)

    def on_train_epoch_start(self) -> None:
        """Make a backbone's dropout a function of seed and interval."""
        torch.manual_seed(processes.own_seed(self.seed, self.current_epoch))

    def training_step(self, batch: list[MicroBatch], batch_idx: int) -> None:
        """Accumulate the gradient of the mean over all response tokens of the batch, clip, step."""
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        here = sum(int((micro.labels != IGNORED).sum()) for micro in batch)
        everywhere, passes = zip(*processes.gather((here, len(batch))), strict=True)
        tokens, total, bad = sum(everywhere), 0.0, None
        optimizer.zero_grad()  # type: ignore[union-attr]
        # Processes that share out a model make equally many passes, whatever happens in one; added ones count nothing.
        for index, micro in enumerate([*batch, *batch[-1:] * (max(passes) - len(batch))]):
            loss, _ = self._loss(micro, self._sharpness(self.global_step))
            if index < len(batch):
                bad = micro if bad is None and not torch.isfinite(loss) else bad
                total += float(loss.detach())
            self.manual_backward(loss / tokens * (index < len(batch)))
        processes.stop_where(bad is not None, lambda: self._refuse("loss", [bad]))  # type: ignore[list-item]
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        processes.sum_gradients(trained)
        norm = torch.nn.utils.clip_grad_norm_(trained, self.config.gradient_clip)
        processes.stop_where(not torch.isfinite(norm), lambda: self._refuse("gradient", batch))
        optimizer.step()  # type: ignore[union-attr]
        scheduler.step()  # type: ignore[union-attr,call-arg]
        read = sum(int(micro.mask.sum()) for micro in batch)
        totals, reads = zip(*processes.gather((total, read)), strict=True)
        self.log("train/loss", sum(totals) / tokens, prog_bar=True)
        self.log_dict(
            {
                "train/gradient_norm": norm,
                "train/learning_rate": scheduler.get_last_lr()[0],  # type: ignore[union-attr]
                "train/response_tokens": float(tokens),
                "train/all_tokens": float(sum(reads)),
            }
        )

    def _loss(self, micro: MicroBatch, sharpness: float) -> tuple[torch.Tensor, int]:
        options = (self.first_item, self.config.allowed_weight, self.chunked_head, sharpness)
        return response_loss(self.model, micro, *options)

    def _sharpness(self, step: int) -> float:
        """Return what the scores of soft labels are multiplied by: 1 until half of the steps, then up in a line."""
        start, end = self.config.soft_labels, self.config.soft_labels_end
        if start is None or end is None:
            return 1.0
        return 1 + (start / end - 1) * max(0.0, 2 * step / self.total_steps - 1)

    def _refuse(self, what: str, batch: Sequence[MicroBatch]) -> NoReturn:
        """Stop before the step; see :func:`refuse`."""
        tensors = {
            f"batch/{index}/{name}": getattr(micro, name)
            for index, micro in enumerate(batch)
            for name in ("ids", "mask", "labels", "positions")
        }
        weights = {f"weights/{name}": tensor for name, tensor in trainable_state(self).items()}
        directory = Path(self.trainer.default_root_dir)
        refuse(what, "lower sl.learning_rate or set trainer.precision=32-true", directory, tensors | weights)

    def validation_step(self, batch: tuple[str, MicroBatch, bool], batch_idx: int) -> None:
        """Collect the loss of one micro-batch under its kind of instruction; processes take turns."""
        if batch_idx % processes.count() != processes.rank():
            return
        task, micro, counts = batch
        loss, tokens = self._loss(micro, self._sharpness(self.total_steps))  # always what is wanted at the end
        if counts:
            self._losses[task].append((float(loss), tokens))

    def on_validation_epoch_end(self) -> None:
        """Log the mean loss of each kind and the mean of these, which selects the checkpoint."""
        means = {}
        everyones = processes.gather(dict(self._losses))
        for task in dict.fromkeys(task for losses in everyones for task in losses):
            parts = [part for losses in everyones for part in losses.get(task, [])]
            means[f"validation/loss_{task}"] = sum(loss for loss, _ in parts) / max(1, sum(count for _, count in parts))
        self._losses.clear()
        self.log_dict(means)
        self.log("validation/loss", sum(means.values()) / max(1, len(means)), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """Return Adam, or Muon and Adam, with linear warm-up and polynomial decay (released)."""
        settings = self.config
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer: torch.optim.Optimizer = torch.optim.Adam(trained, lr=settings.learning_rate, fused=fused(trained))
        if settings.muon_learning_rate is not None:
            inside = {id(weight) for layer in repeated_layers(self.model) for weight in layer.parameters()}  # type: ignore[arg-type]
            matrices = [weight for weight in trained if id(weight) in inside and weight.dim() == 2]
            others = [weight for weight in trained if not (id(weight) in inside and weight.dim() == 2)]
            optimizer = Muon(matrices, others, settings.learning_rate, settings.muon_learning_rate)
        warmup = round(self.config.warmup_share * self.total_steps)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: polynomial_decay(step, self.total_steps, warmup, self.config.decay_power)
        )
        return [optimizer], [scheduler]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trainable tensors alone."""
        checkpoint["state_dict"] = trainable_state(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load by name and refuse any other set of names."""
        load_trainable_state(self, checkpoint["state_dict"])
