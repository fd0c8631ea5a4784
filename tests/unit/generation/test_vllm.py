"""vLLM over a stand-in that has its interface and answers with transformers and PEFT."""

import gc
import os
import sys
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import vllm_stand_in
from answering import engine_of, generate
from steps_constraint import asking, plugged_in
from transformers import PreTrainedModel
from vllm_stand_in import install_stand_in

from ctrlrec.config.compose import compose
from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.controls.registry import BLEND, CHAT, CONTROLS, SEQUENTIAL
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.engines import vllm
from ctrlrec.generation.engines.base import Prompt, in_order
from ctrlrec.lm.adapters import ACTOR, CRITIC, using, with_actor_and_critic
from ctrlrec.lm.chat_format import ChatFormat

Make = Callable[..., PreTrainedModel]
PROMPTS = [[1, 20, 30, 4, 2], [1, 77, 4, 2], [1, 90, 91, 92, 93, 94, 95, 4, 2]]
ASKED = [Prompt(row) for row in PROMPTS]


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    install_stand_in(monkeypatch)


def moved(model: Any) -> Any:
    """A model with an actor and a critic that change its answers."""
    adapted = with_actor_and_critic(model, 4, 8)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return adapted


@pytest.mark.parametrize("adapter", [ACTOR, CRITIC, None])
def test_the_adapter_in_force_answers(make_model: Make, chat_format: ChatFormat, adapter: str | None) -> None:
    model = moved(make_model())
    with using(model, adapter), engine_of("vllm", model, chat_format, 12) as engine:
        assert in_order(engine.answers(ASKED)) == generate(model, chat_format, PROMPTS, 12, "hf")
        assert vllm_stand_in.RUNNING[0].llm_engine.used == ([] if adapter is None else [1])


def test_every_call_brings_the_adapter_as_it_is_then(make_model: Make, chat_format: ChatFormat) -> None:
    model = moved(make_model())
    with using(model, ACTOR), engine_of("vllm", model, chat_format, 12, memory_share=0.4, seed=7) as engine:
        first = in_order(engine.answers(ASKED))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if f"lora_B.{ACTOR}" in name:
                    parameter.neg_()
        second = in_order(engine.answers(ASKED))
        assert first != second == generate(model, chat_format, PROMPTS, 12, "hf")
        (llm,) = vllm_stand_in.RUNNING  # one start for both
        assert llm.llm_engine.used == [1, 2] and not llm.llm_engine.adapters
        assert (llm.memory, llm.seed, llm.length) == (0.4, 7, chat_format.config.max_length)
        assert llm.largest == 8


def test_a_young_adapter_is_not_merged_into_16_bits(make_model: Make, chat_format: ChatFormat) -> None:
    """Beside weights in bfloat16 it reaches vLLM as it was trained, in float32, plain model or PEFT's."""
    model = moved(make_model()).to(torch.bfloat16)
    trained = {}
    for name, parameter in model.named_parameters():
        if f".{ACTOR}." in name:
            parameter.data = trained[name] = torch.randn(parameter.shape) * 1e-4
    for whole in (model, model.get_base_model()):
        with using(model, ACTOR), engine_of("vllm", whole, chat_format, 2) as engine:
            answers = engine.answers(ASKED)
            next(answers)
            (llm,) = vllm_stand_in.RUNNING
            assert llm.model.dtype == torch.bfloat16
            base = model.get_base_model().state_dict()
            for name, tensor in llm.model.state_dict().items():
                key = name if name in base else name.replace(".weight", ".base_layer.weight")
                assert torch.equal(tensor, base[key])
            found = llm.llm_engine.adapters[1].state_dict()
            for name, values in trained.items():
                assert torch.equal(found[name.replace(f".{ACTOR}.", ".default.")].float(), values)
            answers.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["left", "failed", "abandoned"])
def test_it_is_shut_down_however_it_ends(make_model: Make, chat_format: ChatFormat, how: str) -> None:
    engine = engine_of("vllm", make_model(), chat_format, 12)
    with pytest.raises(ValueError, match="stop") if how == "failed" else nullcontext(), engine:
        answers = engine.answers(ASKED * 3)
        next(answers)
        (llm,) = vllm_stand_in.RUNNING
        if how == "failed":
            raise ValueError("stop")
        if how == "abandoned":
            answers.close()  # type: ignore[attr-defined]
            assert not llm.llm_engine.has_unfinished_requests()
    assert not vllm_stand_in.RUNNING
    engine.close()


def test_samples_hang_on_torchs_seed_alone(make_model: Make, chat_format: ChatFormat) -> None:
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(generate(make_model(), chat_format, PROMPTS, 8, "vllm", 1.0, 2))
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] != drawn[0][1]


def test_without_vllm_the_extra_is_named(
    make_model: Make, chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(CtrlRecError, match=r"ctrlrec\[vllm\]"):
        generate(make_model(), chat_format, PROMPTS, 6, "vllm")


def two_processes(patch: pytest.MonkeyPatch, gpus: int) -> None:
    """This is the second of two that torchrun started, on a machine with GPUs that nobody computes on."""
    launched = {"RUN_ID": "1", "USE_AGENT_STORE": "True"}
    for name, value in {f"TORCHELASTIC_{name}": value for name, value in launched.items()}.items():
        patch.setenv(name, value)
    for name, value in zip(("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"), ("2", "1", "1", "4711"), strict=True):
        patch.setenv(name, value)
    patch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    patch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.mark.parametrize(("visible", "expected"), [(None, "1"), ("3,5", "5"), ("GPU-1a, GPU-2b,GPU-3c", "GPU-2b")])
def test_each_process_starts_its_own_on_its_own_gpu(
    make_model: Make, chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: str
) -> None:
    """Its child does not inherit torchrun's variables: with them it would wait for a store that nobody makes."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    two_processes(monkeypatch, gpus=2)
    before = dict(os.environ)
    generate(make_model(), chat_format, PROMPTS, 2, "vllm")
    assert dict(os.environ) == before
    (started,) = vllm_stand_in.STARTED
    assert started["CUDA_VISIBLE_DEVICES"] == expected
    gone = {name for name in before if name.startswith("TORCHELASTIC_")}
    assert before.keys() - started.keys() == gone | {"WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"}


@pytest.mark.parametrize("several", [False, True])
def test_without_a_gpu_or_in_one_process_the_variable_stays(
    make_model: Make, chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    if several:
        two_processes(monkeypatch, gpus=0)
    before = dict(os.environ)
    generate(make_model(), chat_format, PROMPTS, 2, "vllm")
    (started,) = vllm_stand_in.STARTED
    assert started["CUDA_VISIBLE_DEVICES"] == "3,5"
    assert ("RANK" in started) == (not several and "RANK" in before)


def test_the_environment_is_as_before_even_if_it_does_not_start(
    make_model: Make, chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_processes(monkeypatch, gpus=2)
    monkeypatch.setattr(vllm_stand_in.LLM, "__init__", lambda *_, **__: 1 / 0)
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError):
        generate(make_model(), chat_format, PROMPTS, 2, "vllm")
    assert dict(os.environ) == before


def test_more_processes_than_gpus_are_refused(
    make_model: Make, chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_processes(monkeypatch, gpus=1)
    with pytest.raises(CtrlRecError, match=r"number 1 of its machine and sees 1 GPUs"):
        generate(make_model(), chat_format, PROMPTS, 2, "vllm")
    assert not vllm_stand_in.STARTED


def test_an_engine_without_a_process_of_its_own_is_refused_in_several(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In this process CUDA has read the variable, so all engines would start on the first GPU."""
    monkeypatch.setattr(vllm, "find_spec", lambda _: True)
    config = compose("variant=full", "generation.engine=vllm")
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    vllm.ENGINE.check(config, tmp_path)
    two_processes(monkeypatch, gpus=2)
    with pytest.raises(CtrlRecError, match=r"VLLM_ENABLE_V1_MULTIPROCESSING=0 .* in 2 processes: .* unset VLLM_"):
        vllm.ENGINE.check(config, tmp_path)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    vllm.ENGINE.check(config, tmp_path)


def test_adapters_over_float32_are_refused_on_a_gpu(
    make_model: Make, chat_format: ChatFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(CtrlRecError, match=r"set model\.dtype=bfloat16"):
        generate(moved(make_model()), chat_format, PROMPTS, 6, "vllm")


@pytest.mark.parametrize("name", ["fresh", "control"])
def test_a_constraint_holds_for_requests_that_join_leave_and_move(
    name: str, make_model: Make, chat_format: ChatFormat, catalogue: Catalogue
) -> None:
    constraint = make_constraint(ConstraintConfig(name), catalogue, chat_format)
    assert constraint is not None
    wish = Condition(CONTROLS["about"], "Comedy", 30)
    asked = [
        Instruction(BLEND, "u", tuple(range(place)), 39, 1 + place, None, None, None, (("user", "?"),), (wish,))
        for place in range(5)
    ]
    asked[3] = replace(asked[3], task=SEQUENTIAL, blend=(), candidates=(7, 8, 9, 10, 11))
    asked.append(Instruction(CHAT, None, (), None, 0, None, None, None, (("user", "hi"),)))
    prompts = [[1, 20 + place, 4, 2] for place in range(6)]
    model = make_model()
    answers = generate(model, chat_format, prompts, 160, "vllm", constraint=constraint, asked=asked)
    assert answers == generate(model, chat_format, prompts, 160, "hf", constraint=constraint, asked=asked)


def test_another_constraint_starts_it_again(
    make_model: Make, chat_format: ChatFormat, catalogue: Catalogue, tmp_path: Path
) -> None:
    asked = [Prompt([1, 20, 4, 2], asking(1))]
    with plugged_in(tmp_path, catalogue, chat_format) as one, engine_of("vllm", make_model(), chat_format, 9) as engine:
        other = make_constraint(ConstraintConfig("steps"), catalogue, chat_format)
        calls: tuple[Constraint | None, ...] = (None, one, other, other, None)
        started = []
        for constraint in calls:
            list(engine.answers(asked, constraint=constraint))
            (llm,) = vllm_stand_in.RUNNING
            started.append(weakref.ref(llm))
        del llm
        gc.collect()
        assert started[0]() is started[1]() is None
        assert started[2]() is started[3]() is started[4]() is not None  # free answers go with any
