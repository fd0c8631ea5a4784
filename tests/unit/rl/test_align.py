"""The stage as a whole: every algorithm, greedy validation, and a run that is stopped and resumed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ctrlrec.config.compose import compose
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.rl import outside
from ctrlrec.rl import train as rl_train
from ctrlrec.rl.module import RLModule
from ctrlrec.rl.train import align
from ctrlrec.runtime import trainer as trainers
from ctrlrec.runtime.files import read_jsonl

Run = Callable[..., Path]


@pytest.fixture
def run(
    make_model: Callable[..., torch.nn.Module],
    make_builder: Callable[..., InstructionBuilder],
    chat_format: ChatFormat,
    tmp_path: Path,
) -> Run:
    """RL of a tiny model with two prompts an iteration; returns its folder."""

    def stage(name: str, *changes: str) -> Path:
        config = compose(
            "variant=full", "model=llama_mini", "rl.iterations=4", "rl.prompts=2", "rl.learning_rate=0.01",
            "rl.warmup_iterations=0", "rl.item_count_min=2", "rl.item_count_max=3", "rl.ppo_epochs=2",
            "model.max_response_length=24", "logger=csv", "trainer.progress=false", "trainer.accelerator=cpu",
            "trainer.precision=32-true", *changes,
        )  # fmt: skip
        (tmp_path / name).mkdir(exist_ok=True)
        align(config, make_model(), chat_format, make_builder(validation_size=2), tmp_path / name, [])  # type: ignore[arg-type]
        return tmp_path / name

    return stage


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    files = [*folder.glob("adapter/*/adapter_model.safetensors"), *folder.glob("value_head.safetensors")]
    return {f"{file.relative_to(folder)}/{name}": value for file in files for name, value in load_file(file).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


class CheckedError(Exception):
    """The check was reached."""


def test_what_is_checked_is_what_trains(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is where it will be trained, and products run in the trainer's precision."""

    def checking(model: torch.nn.Module) -> None:
        assert next(model.parameters()).device.type == "meta"
        assert torch.is_autocast_enabled("cpu")
        raise CheckedError

    monkeypatch.setattr(rl_train, "device", lambda _: torch.device("meta"))
    monkeypatch.setattr(rl_train, "check_head", checking)
    with pytest.raises(CheckedError):
        run("checked", "trainer.precision=bf16-mixed")


@pytest.mark.parametrize("algorithm", ["grpo", "rloo", "item_grpo"])
def test_an_algorithm_without_a_critic_leaves_an_actor_alone(run: Run, algorithm: str) -> None:
    folder = run(algorithm, f"rl/algorithm={algorithm}", "rl.greedy_row=true")
    assert [path.name for path in (folder / "adapter").iterdir() if path.is_dir()] == ["actor"]
    assert not (folder / "value_head.safetensors").exists()
    moved = [tensor for name, tensor in tensors(folder).items() if "lora_B" in name]
    assert moved and all(tensor.abs().sum() > 0 for tensor in moved)
    rows = read_jsonl(folder / "rollouts.jsonl")
    assert len(rows) == 4 * 2 * 3
    assert [row["sample"] for row in rows if row.get("greedy")] == [2] * 8


@pytest.mark.parametrize("algorithm", ["dpo", "best_of_n"])
def test_an_offline_algorithm_learns_from_the_model_before_rl(run: Run, algorithm: str) -> None:
    folders = [
        run(f"{algorithm}{rate}", f"rl/algorithm={algorithm}", f"rl.learning_rate={rate}", "rl.samples_per_prompt=3")
        for rate in (0.01, 0.5)
    ]
    moved = [[tensor for name, tensor in tensors(folder).items() if "lora_B" in name] for folder in folders]
    assert all(tensor.abs().sum() > 0 for of_folder in moved for tensor in of_folder)
    # However far the actor has moved, the answers are those of the model after SL.
    first, second = ((folder / "rollouts.jsonl").read_bytes() for folder in folders)
    assert first == second


TRL = ("rl/algorithm=trl_grpo",)


def test_trl_leaves_the_files_of_every_algorithm(run: Run, builder: InstructionBuilder) -> None:
    ours, trl = run("ours", "rl/algorithm=grpo"), run("trl", *TRL)
    assert {name: tensor.shape for name, tensor in tensors(trl).items()} == {
        name: tensor.shape for name, tensor in tensors(ours).items()
    }
    assert all(tensor.abs().sum() > 0 for name, tensor in tensors(trl).items() if "lora_B" in name)
    files = [
        {path.relative_to(folder).as_posix() for path in (folder / "adapter").rglob("*")} for folder in (trl, ours)
    ]
    assert files[0] == files[1]
    rows, of_ours = (read_jsonl(folder / "rollouts.jsonl") for folder in (trl, ours))
    assert [row.keys() for row in rows] == [row.keys() for row in of_ours]
    answered = (
        "response",
        "titles",
        "items",
        "teacher_rank",
        "illegal",
        "item_reward",
        "list_reward",
        "tokens",
        "reward_at",
    )
    for row, of_our in zip(rows, of_ours, strict=True):  # the same prompts in the same order
        assert {key: row[key] for key in row if key not in answered} == {
            key: of_our[key] for key in of_our if key not in answered
        }
        assert row["reward_at"][-1] == row["tokens"] - 1 and len(row["reward_at"]) == len(row["titles"]) + 1


@pytest.mark.parametrize("stop", [1, 3])
def test_trl_stopped_and_resumed_equals_uninterrupted(run: Run, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    told = iter([1.0, 3.0, 2.0, 2.0, *[1.0, 3.0, 2.0, 2.0]])
    monkeypatch.setattr("ctrlrec.rl.algorithms.trl_grpo.means_by_kind", lambda rows: {"reward": next(told)})
    changes = (*TRL, "rl.validate_every=1", "rl.minibatches=2")
    whole = run("whole", *changes)
    call = outside.KeptReward.__call__

    def stopping(self: object, *given: object, row: list[int], **columns: object) -> object:
        if row[0] // 2 == stop:
            raise OSError("stopped")
        return call(self, *given, row=row, **columns)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(outside.KeptReward, "__call__", stopping)
        with pytest.raises(OSError, match="stopped"):
            run("stopped", *changes)
    resumed = run("stopped", *changes)
    assert next(told, None) is None  # none is made again
    assert same(tensors(resumed), tensors(whole))
    assert (resumed / "rollouts.jsonl").read_bytes() == (whole / "rollouts.jsonl").read_bytes()
    best = json.loads((resumed / "checkpoints/best.json").read_text())
    assert best == {"iteration": 1, "reward": 3.0}
    assert not same(tensors(run("last", *TRL, "rl.minibatches=2")), tensors(whole))


def test_trl_stops_at_what_is_not_finite(run: Run) -> None:
    with pytest.raises(CtrlRecError, match=r"of iteration \d is not finite: lower rl\.learning_rate"):
        run("endless", *TRL, "rl.learning_rate=1e30")


@pytest.mark.parametrize(
    "change",
    [
        "rl.temperature_end=0.3",
        "rl.greedy_row=true",
        "rl.critic_ahead=1",
        "rl.samples_per_prompt=1",
        "rl.kl_loss_coefficient=0.1",
    ],
)
def test_what_trl_does_not_do_is_refused(change: str) -> None:
    key = change.partition("=")[0]
    with pytest.raises(CtrlRecError, match=key):
        compose("variant=full", *TRL, change)


PLUGIN = """
from dataclasses import dataclass

from ctrlrec.config.schema import bounded
from ctrlrec.rl.algorithms.base import Algorithm


@dataclass
class Options:
    baseline: float = bounded(-100, 100)


class Reinforce(Algorithm):
    Options = Options

    def advantages(self, experience, rewards):
        total = (rewards * experience.mask).sum(1, keepdim=True)
        experience.advantages = (total - self.options.baseline) * experience.mask


ALGORITHM = Reinforce
"""


def test_an_algorithm_is_one_file_and_one_yaml(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "plugin" / "rl" / "algorithms" / "reinforce.py"
    file.parent.mkdir(parents=True)
    file.write_text(PLUGIN)
    choice = tmp_path / "plugin" / "conf" / "rl" / "algorithm" / "reinforce.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("name: reinforce\noptions: {baseline: 0.0}\n")
    monkeypatch.setenv("CTRLREC_PLUGINS", str(tmp_path / "plugin"))
    chosen = "rl/algorithm=reinforce"
    folders = [run(f"by{value}", chosen, f"rl.algorithm.options.baseline={value}") for value in (0, 9)]
    assert not same(*(tensors(folder) for folder in folders))  # its option is read
    with pytest.raises(CtrlRecError, match=r"rl\.algorithm\.options\.baseline=101"):
        run("wrong", chosen, "rl.algorithm.options.baseline=101")


@pytest.fixture
def validations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Validation rewards that rise and fall again: 1, 3, 2, 2 at the four iterations."""
    told = [1.0, 3.0, 2.0, 2.0]
    seen: list[float] = []

    def means(rows: list) -> dict[str, float]:
        assert len(rows) == 6 * 2 or len(rows) == 6 * 2 - 1  # a target with every category is asked less
        seen.append(told[len(seen) % 4])
        return {"reward": seen[-1]}

    monkeypatch.setattr("ctrlrec.rl.module.means_by_kind", means)
    yield seen


def test_the_best_validated_model_is_the_result(run: Run, validations: list[float]) -> None:
    every = run("every", "rl.validate_every=1")
    assert validations == [1, 3, 2, 2]
    last = run("last")
    assert validations == [1, 3, 2, 2]  # not validated
    assert not same(tensors(every), tensors(last))
    states = [torch.load(every / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last")]
    assert [state["iterations"] for state in states] == [2, 4]
    rows = (every / "rollouts.jsonl").read_bytes()
    assert rows == (last / "rollouts.jsonl").read_bytes()  # validation disturbs nothing


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_stopped_and_resumed_equals_uninterrupted(
    run: Run, validations: list[float], monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    changes = ("rl.validate_every=1", "rl.greedy_row=true", "rl.temperature_end=0.3", "rl.critic_ahead=1")
    whole = tensors(run("whole", *changes))
    step = RLModule.training_step

    def stopping(self: RLModule, batch: object, batch_idx: int) -> None:
        if self.current_epoch == stop:
            raise OSError("stopped")
        step(self, batch, batch_idx)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(RLModule, "training_step", stopping)
        with pytest.raises(OSError, match="stopped"):
            run("stopped", *changes)
    assert len(validations) == 4 + stop
    resumed = run("stopped", *changes)
    assert len(validations) == 8  # none is made again
    assert same(tensors(resumed), whole)
    assert (resumed / "rollouts.jsonl").read_bytes() == (resumed.parent / "whole" / "rollouts.jsonl").read_bytes()


@pytest.mark.parametrize("killed", [False, True])
def test_checkpoints_are_written_every_few_iterations_and_when_stopped(
    run: Run, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """SIGTERM raises where the program is and loses the iteration at work; a kill loses those since the last file."""
    few = ("trainer.checkpoint_every=2",)
    whole = tensors(run("whole"))
    step, done = RLModule.training_step, []

    def stopping(self: RLModule, batch: object, batch_idx: int) -> None:
        done.append(self.current_epoch)
        if self.current_epoch == 3 and len(done) == 4:
            raise SystemExit(143)
        step(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(RLModule, "training_step", stopping)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        if killed:
            patch.setattr(trainers.WholeCheckpoints, "flush", only_when_saving(trainers.WholeCheckpoints.flush))
        run("stopped", *few)
    resumed = run("stopped", *few)
    assert done == [0, 1, 2, 3, *([2, 3] if killed else [3])]
    assert same(tensors(resumed), whole)
    assert (resumed / "rollouts.jsonl").read_bytes() == (resumed.parent / "whole" / "rollouts.jsonl").read_bytes()


def only_when_saving(flush: Callable[[trainers.WholeCheckpoints], None]) -> Callable[[trainers.WholeCheckpoints], None]:
    """As if the process were gone when training ends."""

    def flushing(self: trainers.WholeCheckpoints) -> None:
        if self._count % self.every == 0:
            flush(self)

    return flushing


def test_stopped_between_the_best_checkpoint_and_the_last(
    run: Run, validations: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tensors(run("whole", "rl.validate_every=1"))
    save = RLModule.on_save_checkpoint

    def stopping(self: RLModule, checkpoint: dict) -> None:
        if self.current_epoch == 1 and checkpoint.get("optimizer_states"):
            raise OSError("stopped")  # best.ckpt holds weights alone and lies there already
        save(self, checkpoint)

    with monkeypatch.context() as patch:
        patch.setattr(RLModule, "on_save_checkpoint", stopping)
        with pytest.raises(OSError, match="stopped"):
            run("stopped", "rl.validate_every=1")
    validations[:] = validations[:5]  # the second one is made again
    assert same(tensors(run("stopped", "rl.validate_every=1")), whole)


def test_validation_asks_about_the_validation_item_as_a_test_asks(
    make_builder: Callable[..., InstructionBuilder],
) -> None:
    builder = make_builder(validation_size=25)
    asked = builder.validation_questions()
    sequences = builder.sequences
    kinds = {(instruction.task, instruction.proportion) for instruction in asked}
    assert kinds == {
        ("sequential", None), ("category_positive", None), ("category_negative", None), ("proportion_at_most", 20),
        ("proportion_about", 30), ("proportion_at_least", 30),
    }  # fmt: skip
    for instruction in asked:
        _, test = sequences.test(sequences.users.index(str(instruction.user)))
        _, target = sequences.validation(sequences.users.index(str(instruction.user)))
        assert instruction.target == target
        assert test not in instruction.history
        assert (instruction.item_count, instruction.candidates) == (10, None)
