"""The loss of SL, its gradient and its schedule."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from ctrlrec.config.schema import SLConfig
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm import head
from ctrlrec.lm.adapters import trainable_state, with_adapter
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.sl.data import SLData
from ctrlrec.sl.module import SupervisedModule, polynomial_decay, response_loss
from ctrlrec.sl.stream import IGNORED, Layout, MicroBatch, Row, TrainingStream, collate, encode, split

Rows = list[Row]
Make = Callable[..., PreTrainedModel]


@pytest.fixture
def rows(builder: InstructionBuilder, chat_format: ChatFormat) -> Rows:
    return encode(builder.epoch(0, ("sequential", "category", "proportion"))[:8], chat_format)


def test_loss_is_that_of_a_full_forward_pass_with_labels(make_model: Make, rows: Rows, chat_format: ChatFormat) -> None:
    model, batch = make_model(), collate(rows, chat_format.pad, "padded")
    loss, tokens = response_loss(model, batch)
    assert tokens == sum(len(response) for _, response, *_ in rows)
    whole = model(input_ids=batch.ids, attention_mask=batch.mask, labels=batch.labels)
    assert float(loss) / tokens == pytest.approx(float(whole.loss), rel=1e-4)
    by_hand = 0.0
    for prompt, response, *_ in rows:  # row by row, without padding
        scored = torch.log_softmax(model(input_ids=torch.tensor([prompt + response])).logits[0], -1)
        by_hand -= sum(float(scored[len(prompt) - 1 + place, token]) for place, token in enumerate(response))
    assert float(loss) == pytest.approx(by_hand, rel=1e-4)


def test_the_prompt_is_read_and_not_learnt(make_model: Make, rows: Rows, chat_format: ChatFormat) -> None:
    model = make_model()
    prompt, response, *_ = rows[0]
    batch = collate([Row(prompt, response)], chat_format.pad, "padded")
    assert (batch.labels[0, : len(prompt)] == IGNORED).all()
    plain, tokens = response_loss(model, batch)
    # Another last prompt token changes how likely the response is, and adds no term of its own.
    changed = collate([Row([*prompt[:-1], prompt[-1] + 1], response)], chat_format.pad, "padded")
    other, same_tokens = response_loss(model, changed)
    assert tokens == same_tokens == len(response)
    assert float(plain.detach()) != float(other.detach())
    # The terms are those of the response: with every response token but the first cut off, one term is left.
    single, one = response_loss(model, collate([Row(prompt, response[:1])], chat_format.pad, "padded"))
    scored = torch.log_softmax(model(input_ids=torch.tensor([prompt])).logits[0, -1], -1)
    assert one == 1
    assert float(single) == pytest.approx(-float(scored[response[0]]), rel=1e-4)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_padding_and_its_content_change_nothing(
    make_model: Make, rows: Rows, chat_format: ChatFormat, layout: Layout
) -> None:
    model, batch = make_model(), collate(rows, chat_format.pad, layout)
    rubbish = replace(batch, ids=torch.where(batch.mask.bool(), batch.ids, 77))
    assert float(response_loss(model, batch)[0]) == pytest.approx(float(response_loss(model, rubbish)[0]), rel=1e-6)


@pytest.mark.parametrize(
    ("size", "tokens", "layout"),
    [
        (1, None, "padded"), (3, None, "padded"), (3, None, "packed"), (8, None, "packed"),
        (99, 500, "padded"), (99, 500, "packed"), (99, 1, "packed"),
    ],
)  # fmt: skip
def test_micro_batches_and_packing_change_neither_loss_nor_gradient(
    make_model: Make, rows: Rows, chat_format: ChatFormat, size: int, tokens: int | None, layout: Layout
) -> None:
    """Tokens weigh alike, in whichever micro-batch or row they are: a mean of means would not do that."""
    # Short answers beside long ones, so that rows do hold several samples.
    rows = [Row(row.prompt, row.response[: 3 + 40 * (place % 2)]) for place, row in enumerate(rows)]
    rows += [Row(row.prompt[-9:], row.response) for row in rows]
    results = []
    for micro, budget, lies in ((size, tokens, layout), (len(rows), None, "padded")):
        model = make_model()
        total = 0.0
        batches = split(rows, micro, chat_format.pad, lies, budget)
        assert len(batches) == 1 if micro == len(rows) else len(batches) > 1
        for batch in batches:
            loss, _ = response_loss(model, batch)
            loss.backward()
            total += float(loss.detach())
        results.append((total, {name: parameter.grad for name, parameter in model.named_parameters()}))
    (loss, gradient), (whole_loss, whole_gradient) = results
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    for name, tensor in gradient.items():
        assert torch.allclose(tensor, whole_gradient[name], rtol=1e-3, atol=1e-4 * (1 + float(tensor.abs().max()))), (
            name
        )


@pytest.mark.parametrize("kernel", [True, False])
def test_a_head_in_chunks_changes_neither_loss_nor_gradient(
    make_model: Make, rows: Rows, chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    monkeypatch.setattr(head, "_SCORES", 512 * 50)
    if not kernel:
        monkeypatch.setattr(head.kernels, "ChunkedLogProbFunction", None)
    batch, found = collate(rows, chat_format.pad, "packed"), []
    for chunked in (False, True):
        model = make_model(scale=1.0)
        loss, tokens = response_loss(model, batch, chunked_head=chunked)
        (loss / tokens).backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        found.append((float(loss.detach()) / tokens, gradients))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    assert float((found[1][1] - found[0][1]).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.25), (1, 0.5), (2, 0.75), (3, 1.0), (8, 0.25), (12, 0.01), (13, 0.0), (20, 0.0)],
)
def test_learning_rate_warms_up_and_decays(step: int, factor: float) -> None:
    """Three steps of warm-up, then quadratic decay over the other ten."""
    assert polynomial_decay(step, total=13, warmup=3, power=2.0) == pytest.approx(factor)


# ---------------------------------------------------------------------- through Lightning


@pytest.fixture
def fit(
    builder: InstructionBuilder, chat_format: ChatFormat, make_sl_config: Callable[..., SLConfig], tmp_path: Path
) -> Callable[..., tuple[SupervisedModule, dict[str, float], list[float]]]:
    def run(model: torch.nn.Module, steps: int, seed_batch: int = 8, **changes: Any):
        config = make_sl_config(batch_size=seed_batch, **changes)
        size = config.micro_batch_size
        stream = TrainingStream(builder, ("sequential",), chat_format, config.batch_size, size, "packed")
        validation = [
            (
                task,
                split(
                    encode([e for e in builder.validation() if e.instruction.task == task], chat_format), 4, 0, "packed"
                ),
            )
            for task in ("sequential", "category_positive")
        ]
        module = SupervisedModule(model, config, steps, builder.seed)
        data = SLData(stream, validation, steps, config.validations)
        losses: list[float] = []
        step = module.training_step

        def training_step(batch: list[MicroBatch], batch_idx: int) -> None:
            step(batch, batch_idx)
            losses.append(float(module.trainer.callback_metrics["train/loss"]))

        module.training_step = training_step  # type: ignore[method-assign]
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=data.intervals, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
        return module, {name: float(value) for name, value in trainer.callback_metrics.items()}, losses

    return run


def test_a_learning_rate_of_zero_changes_nothing(make_model: Make, fit: Callable[..., Any]) -> None:
    model = make_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    _, metrics, losses = fit(model, 3, learning_rate=0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert len(losses) == 3
    assert metrics["validation/loss"] == pytest.approx(
        (metrics["validation/loss_sequential"] + metrics["validation/loss_category_positive"]) / 2
    )


def test_only_the_adapter_learns_under_lora(make_model: Make, fit: Callable[..., Any]) -> None:
    model = with_adapter(make_model(), 2, 4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    module, _, _ = fit(model, 3, learning_rate=0.01, validations=2)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name.removeprefix("model.") for name in trainable_state(module)}
    assert all(".lora_" in name for name in moved)


def test_the_logged_loss_is_the_mean_over_all_response_tokens(
    make_model: Make, fit: Callable[..., Any], builder: InstructionBuilder, chat_format: ChatFormat
) -> None:
    model = make_model()
    module, _, losses = fit(model, 1, learning_rate=0.0)
    stream = module.trainer.datamodule.stream
    batches = TrainingStream(builder, ("sequential",), chat_format, stream.batch_size, 4, "padded").batch(0)
    logits = [model(input_ids=batch.ids, attention_mask=batch.mask).logits[:, :-1] for batch in batches]
    flat = torch.cat([part.reshape(-1, part.shape[-1]) for part in logits])
    labels = torch.cat([batch.labels[:, 1:].reshape(-1) for batch in batches])
    assert losses[0] == pytest.approx(float(functional.cross_entropy(flat, labels, ignore_index=IGNORED)), rel=1e-4)


@pytest.mark.slow
def test_loss_falls(make_model: Make, fit: Callable[..., Any]) -> None:
    _, metrics, losses = fit(make_model(scale=1.0), 120, learning_rate=3e-3, validations=2)
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[0] == pytest.approx(math.log(512), abs=0.3)
    assert sum(losses[-10:]) / 10 < 0.7 * losses[0]
    assert metrics["validation/loss_sequential"] < 0.8 * losses[0]
