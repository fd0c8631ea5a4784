"""What a GPU computes is what a CPU computes; without a GPU the CPU stands for it, so that the tests are run at all."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from answering import generate
from transformers import PreTrainedModel

from ctrlrec.generation.decoder import decode as decoder
from ctrlrec.generation.decoder import graphs
from ctrlrec.generation.decoder.decode import decode
from ctrlrec.generation.engines.base import in_order
from ctrlrec.lm import kernels
from ctrlrec.lm.adapters import ACTOR, CRITIC, using, with_actor_and_critic
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.scoring import check_head, keeps_apart
from ctrlrec.runtime.faults import halving
from ctrlrec.sl.module import response_loss
from ctrlrec.sl.stream import collate, encode

pytestmark = pytest.mark.gpu

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """Without TF32, which the default matmul_precision allows and under which greedy answers may differ."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def prompts(builder: Any, chat_format: ChatFormat) -> list[list[int]]:
    asked = [example.instruction.messages for example in builder.epoch(0, ["sequential"])[:8]]
    return chat_format.prompts(asked)


@pytest.mark.parametrize("engine", ["native", "hf"])
def test_greedy_answers(
    make_model: Callable[..., PreTrainedModel], chat_format: ChatFormat, prompts: list[list[int]], engine: str
) -> None:
    expected = generate(make_model(), chat_format, prompts, 40, "native")
    assert generate(make_model().to(DEVICE), chat_format, prompts, 40, engine) == expected


@pytest.mark.parametrize("adapter", [ACTOR, CRITIC, None])
def test_adapters(
    make_model: Callable[..., PreTrainedModel], prompts: list[list[int]], chat_format: ChatFormat, adapter: str | None
) -> None:
    torch.manual_seed(0)
    model = with_actor_and_critic(make_model(), 4, 8)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    with using(model, adapter):
        expected = in_order(decode(model, prompts, chat_format.ends, 20))
        assert in_order(decode(model.to(DEVICE), prompts, chat_format.ends, 20)) == expected


@pytest.mark.parametrize("rows", [8, 3])
def test_steps_as_one_graph(
    make_model: Callable[..., PreTrainedModel], prompts: list[list[int]], chat_format: ChatFormat,
    monkeypatch: pytest.MonkeyPatch, rows: int,
) -> None:  # fmt: skip
    """What is captured is replayed with what stands in its memory by then; on a CPU nothing is captured."""
    model, captures = make_model().to(DEVICE), []
    monkeypatch.setattr(graphs, "captured", lambda work, real=graphs.captured: captures.append(1) or real(work))
    found = in_order(decode(model, prompts, chat_format.ends, 40, rows=rows))
    sampled = in_order(decode(model, prompts, (), 40, 1.0, samples=2))
    assert len(captures) == 2 * (DEVICE.type == "cuda")
    monkeypatch.setattr(decoder, "_CAPTURED", ())
    assert found == in_order(decode(model, prompts, chat_format.ends, 40, rows=rows))
    assert len({tuple(answer.tokens) for answer in sampled}) == 16  # every replay draws other numbers
    assert all(len(set(answer.log_probs)) > 20 for answer in sampled)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_loss_and_gradient(
    make_model: Callable[..., PreTrainedModel], builder: Any, chat_format: ChatFormat, layout: Any
) -> None:
    rows = encode(builder.epoch(0, ["sequential", "search"])[:12], chat_format)
    losses, gradients = [], []
    for device in (torch.device("cpu"), DEVICE):
        model = make_model(scale=1.0).to(device)
        loss, _ = response_loss(model, collate(rows, chat_format.pad, layout).to(device))
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([parameter.grad.flatten().cpu() for parameter in model.parameters()]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert (gradients[1] - gradients[0]).norm() < 1e-4 * gradients[0].norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checks_before_training_pass(make_model: Callable[..., PreTrainedModel], dtype: torch.dtype) -> None:
    model = make_model(scale=1.0).to(DEVICE, dtype)
    check_head(model)
    assert keeps_apart(model)


def test_kernels() -> None:
    """On a GPU TRL takes other paths than on a CPU."""
    torch.manual_seed(0)
    scores = torch.randn(1, 200, 1000)
    chosen = torch.randint(1000, (1, 200))
    expected = torch.log_softmax(scores, -1)
    found = kernels.selective_log_softmax(scores.to(DEVICE), chosen.to(DEVICE)).cpu()
    assert torch.allclose(found, expected.gather(-1, chosen[..., None])[..., 0], atol=1e-5)
    entropy = kernels.entropy_from_logits(scores[0].to(DEVICE)).cpu()
    assert torch.allclose(entropy, -(expected.exp() * expected).sum(-1)[0], atol=1e-4)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="a machine's own memory is not to be filled")
def test_a_real_shortage_of_memory_halves_the_batch() -> None:
    tried: list[int] = []

    def answers(size: int) -> Iterator[int]:
        tried.append(size)
        yield torch.empty(size, 2**34, dtype=torch.uint8, device=DEVICE).shape[0]

    assert next(halving(answers, 64)) >= 1
    assert len(tried) > 1
