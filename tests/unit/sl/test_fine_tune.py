"""The stage as a whole: what it refuses, and that it ends however often it is begun."""

import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.sl import train as sl_train
from ctrlrec.sl.train import fine_tune

Make = Callable[..., torch.nn.Module]


def run(model: torch.nn.Module, builder: InstructionBuilder, chat_format: ChatFormat, folder: Path, *changes: str):
    config = compose(
        "variant=v1", "model=llama_mini", "sl.max_steps=4", "sl.validations=2", "sl.batch_size=4",
        "logger=csv", "trainer.progress=false", "trainer.accelerator=cpu", "trainer.precision=32-true", *changes,
    )  # fmt: skip
    fine_tune(config, model, chat_format, builder, folder, [])
    return model.state_dict()


def test_killed_behind_its_last_step_it_still_ends(
    make_model: Make, builder: InstructionBuilder, chat_format: ChatFormat, tmp_path: Path
) -> None:
    once = {name: tensor.clone() for name, tensor in run(make_model(), builder, chat_format, tmp_path).items()}
    shutil.rmtree(tmp_path / "model")  # nothing written yet, all checkpoints there
    again = run(make_model(), builder, chat_format, tmp_path)
    assert (tmp_path / "model").is_dir()
    assert all(torch.equal(tensor, again[name]) for name, tensor in once.items())


def test_layers_computed_anew_learn_the_same(
    make_model: Make, builder: InstructionBuilder, chat_format: ChatFormat, tmp_path: Path
) -> None:
    kept = run(make_model(), builder, chat_format, tmp_path / "kept")
    model = make_model()
    anew = run(model, builder, chat_format, tmp_path / "anew", "trainer.activation_checkpointing=true")
    assert all(isinstance(layer.forward, partial) for layer in model.model.layers)  # type: ignore[union-attr]
    assert all(torch.equal(tensor, anew[name]) for name, tensor in kept.items())


def test_all_weights_are_trained_in_float32_alone(
    make_model: Make, builder: InstructionBuilder, chat_format: ChatFormat, tmp_path: Path
) -> None:
    with pytest.raises(CtrlRecError, match=r"lost in weights of torch\.bfloat16; set model\.dtype=float32"):
        run(make_model().bfloat16(), builder, chat_format, tmp_path)


class CheckedError(Exception):
    """The check was reached."""


def test_what_is_checked_is_what_trains(
    make_model: Make,
    builder: InstructionBuilder,
    chat_format: ChatFormat,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model is where it will be trained, and products run in the trainer's precision."""

    def checking(model: torch.nn.Module) -> None:
        assert next(model.parameters()).device.type == "meta"
        assert torch.is_autocast_enabled("cpu")
        raise CheckedError

    monkeypatch.setattr(sl_train, "device", lambda _: torch.device("meta"))
    monkeypatch.setattr(sl_train, "check_head", checking)
    with pytest.raises(CheckedError):
        run(make_model(), builder, chat_format, tmp_path, "trainer.precision=bf16-mixed")


def test_dropout_of_a_backbone_is_on_and_repeats_itself(
    make_model: Make, builder: InstructionBuilder, chat_format: ChatFormat, tmp_path: Path
) -> None:
    class Dropping(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return functional.dropout(hidden, 0.2, self.training)

    def dropping() -> torch.nn.Module:
        model = make_model()
        model.model.norm = torch.nn.Sequential(model.model.norm, Dropping())  # type: ignore[assignment, union-attr]
        return model.eval()

    plain = run(dropping(), builder, chat_format, tmp_path / "a", "sl.learning_rate=0.01")
    torch.manual_seed(99)
    same = run(dropping(), builder, chat_format, tmp_path / "b", "sl.learning_rate=0.01")
    undropped = run(make_model(), builder, chat_format, tmp_path / "c", "sl.learning_rate=0.01")
    embedding = "model.embed_tokens.weight"
    assert torch.equal(plain[embedding], same[embedding])
    assert not torch.equal(plain[embedding], undropped[embedding])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, CtrlRecError("told why"), SystemExit(143)])
def test_what_stops_training_is_what_is_heard_of(
    make_model: Make, builder: InstructionBuilder, chat_format: ChatFormat, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, stop: BaseException,
) -> None:  # fmt: skip
    """Also where a loader is not yet set up, whose tearing down by Lightning fails in its turn."""

    def stopped(*_: object) -> None:
        raise stop

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", stopped)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(stop if isinstance(stop, type) else type(stop)) as heard:
            run(make_model(), builder, chat_format, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)  # which Lightning switches off
    assert isinstance(stop, type) or heard.value is stop
