"""NaN and infinity stop a run before they are trained on; the batch that met them can be looked at again."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from ctrlrec.config.schema import SLConfig, TeacherConfig
from ctrlrec.data.sequences import Sequences
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import trainable_state
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.sl import module as sl
from ctrlrec.sl.data import SLData
from ctrlrec.sl.stream import MicroBatch, TrainingStream
from ctrlrec.teacher.models.sasrec import SASRec
from ctrlrec.teacher.train import TeacherModule


@pytest.fixture
def fit(
    make_model: Callable[..., PreTrainedModel],
    make_sl_config: Callable[..., SLConfig],
    builder: InstructionBuilder,
    chat_format: ChatFormat,
    tmp_path: Path,
) -> Callable[[], sl.SupervisedModule]:
    """Three steps of SL; the module it leaves, however they end."""
    module = sl.SupervisedModule(make_model(scale=1.0), make_sl_config(), 3, builder.seed)
    data = SLData(TrainingStream(builder, ("sequential",), chat_format, 8, 4, "packed"), [], 3, 1)

    def run() -> sl.SupervisedModule:
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
        return module

    run.module = module  # type: ignore[attr-defined]
    return run


def on_call(number: int, function: Callable[..., Any], spoil: Callable[[Any], Any]) -> Callable[..., Any]:
    """The function with one of its results spoilt."""
    calls: Iterator[int] = iter(range(10**6))
    return lambda *given: spoil(function(*given)) if next(calls) == number else function(*given)


def test_a_loss_that_is_not_finite_stops_sl_before_its_step(
    fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def remember(result: tuple[torch.Tensor, int]) -> tuple[torch.Tensor, int]:
        seen.append({name: tensor.clone() for name, tensor in trainable_state(fit.module).items()})
        return result[0] * math.nan, result[1]

    # Two micro-batches a step: the fourth call is in the middle of the second step.
    monkeypatch.setattr(sl, "response_loss", on_call(3, sl.response_loss, remember))
    with pytest.raises(
        CtrlRecError, match=r"^the loss is not finite, nothing was trained on it: lower sl\.learning_rate"
    ):
        fit()
    ((before),) = seen
    after = trainable_state(fit.module)
    assert all(torch.equal(after[name], before[name]) for name in before)
    kept = load_file(tmp_path / "not_finite.safetensors")
    assert {name for name in kept if name.startswith("weights/")} == {f"weights/{name}" for name in before}
    # What was kept is enough to meet the batch again.
    micro = MicroBatch(*(kept[f"batch/0/{name}"] for name in ("ids", "mask", "labels", "positions")))
    fit.module.load_state_dict({name[8:]: kept[name] for name in kept if name.startswith("weights/")}, strict=False)
    monkeypatch.undo()
    loss, tokens = sl.response_loss(fit.module.model, micro)
    assert math.isfinite(float(loss.detach())) and tokens > 0


def test_a_gradient_that_is_not_finite_stops_sl_before_its_step(fit: Any, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in trainable_state(fit.module).items()}
    parameter = next(iter(fit.module.model.parameters()))
    parameter.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(CtrlRecError, match=r"^the gradient is not finite"):
        fit()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainable_state(fit.module).items())
    assert (tmp_path / "not_finite.safetensors").is_file()


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_the_teacher_stops_before_its_step(sequences: Sequences, tmp_path: Path, where: str) -> None:
    model = SASRec(items=40, length=10, embedding=16, layers=1, heads=2, dropout=0.0)
    config = TeacherConfig("sasrec", 16, 1, 2, 0.0, 1e-3, 0.0, 8, 1, 1)
    module = TeacherModule(model, config, sequences, 0)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    if where == "loss":
        model.loss = lambda *batch: SASRec.loss(model, *batch) * math.nan  # type: ignore[method-assign]
    else:
        model.norm.weight.register_hook(lambda gradient: gradient * math.nan)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    with pytest.raises(CtrlRecError, match=rf"^the {where} is not finite.*lower teacher\.learning_rate"):
        trainer.fit(module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert {"batch/histories", "batch/targets"} <= load_file(tmp_path / "not_finite.safetensors").keys()
