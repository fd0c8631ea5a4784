"""What ``rl.seed`` seeds, and what keeps the seed of the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctrlrec.config.compose import compose
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.pipeline import evaluate, rl


class ReachedError(Exception):
    """The part looked at was reached."""


def test_rl_alone_takes_its_seed(
    make_builder: Callable[..., InstructionBuilder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts and all that training seeds are of ``rl.seed``; the backbone, on which SL rests, is of ``seed``."""

    class Format:
        tokenizer = items = None

    def load(config: Any, inputs: Any) -> tuple[InstructionBuilder, Any]:
        return make_builder(seed=config.seed), Format()

    backbones: list[int] = []
    aligned: list[tuple[int, list[Any]]] = []

    def align(config: Any, model: Any, chat_format: Any, builder: InstructionBuilder, *others: Any) -> None:
        aligned.append((config.seed, builder.rollout_prompts(0, 4, (6, 10))))

    monkeypatch.setattr(rl, "load_builder", load)
    monkeypatch.setattr("ctrlrec.lm.policy.load_policy", lambda *parts, **_: backbones.append(parts[3]))
    monkeypatch.setattr("ctrlrec.rl.train.align", align)
    for words in (["rl.seed=0"], ["rl.seed=2"], []):
        rl.run(compose("variant=full", "logger=csv", *words), {"sl": tmp_path}, tmp_path)
    assert backbones == [0, 0, 0]
    assert [seed for seed, _ in aligned] == [0, 2, 0]
    same, other, usual = (prompts for _, prompts in aligned)
    assert same == usual and other != usual


def test_questions_of_evaluation_are_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(config: Any, inputs: Any) -> None:
        raise ReachedError(config.seed)

    monkeypatch.setattr(evaluate, "load_builder", load)
    with pytest.raises(ReachedError, match=r"^3$"):
        evaluate.run(compose("variant=full", "seed=3", "rl.seed=5"), {}, tmp_path)
