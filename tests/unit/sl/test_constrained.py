"""With ``sl.constrained`` a label is learnt among the tokens that the constraint allows at its place."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Example
from ctrlrec.controls.registry import CHAT
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm import head
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.sl.module import response_loss
from ctrlrec.sl.stream import IGNORED, Layout, collate, encode


@pytest.fixture
def constraint(catalogue: Catalogue, chat_format: ChatFormat) -> Constraint:
    made = make_constraint(ConstraintConfig("control"), catalogue, chat_format)
    assert made is not None
    made.limit = None
    return made


@pytest.fixture
def examples(builder: InstructionBuilder) -> list[Example]:
    """Lists of every kind, and chat."""
    everything = builder.epoch(0, builder.families)
    return [*everything[:9], *[example for example in everything if example.instruction.task == CHAT][:2]]


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_loss_is_taken_among_the_allowed_tokens(
    make_model: Callable[..., PreTrainedModel],
    constraint: Constraint,
    examples: list[Example],
    chat_format: ChatFormat,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model()
    rows = encode(examples, chat_format, constraint)
    batch = collate(rows, chat_format.pad, layout)
    loss, tokens = response_loss(model, batch)
    by_hand, decided = 0.0, 0
    for example, row in zip(examples, rows, strict=True):
        places = constraint.replay(constraint.start(example.instruction), row.response)
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([row.prompt + row.response])).logits[0, len(row.prompt) - 1 : -1]
        for place, (token, allowed) in enumerate(zip(row.response, places, strict=True)):
            among = list(range(512)) if allowed is None else allowed.tolist()
            if len(among) > 1:
                decided += 1
                by_hand -= float(torch.log_softmax(scores[place, among], -1)[among.index(token)])
    assert tokens == decided == int((batch.labels != IGNORED).sum())
    assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-4)
    monkeypatch.setattr(head, "_SCORES", 512 * 7)
    assert float(response_loss(model, batch, chunked_head=True)[0].detach()) == pytest.approx(float(loss.detach()))
    free, every = response_loss(model, collate(encode(examples, chat_format), chat_format.pad, layout))
    assert every > 2 * tokens and float(free.detach()) > 2 * float(loss.detach())


def test_gradients_reach_the_allowed_tokens_alone(
    make_model: Callable[..., PreTrainedModel], constraint: Constraint, examples: list[Example], chat_format: ChatFormat
) -> None:
    model = make_model()
    model.set_output_embeddings(torch.nn.Linear(32, 512, bias=False))
    rows = encode(examples[:9], chat_format, constraint)
    loss, _ = response_loss(model, collate(rows, chat_format.pad, "packed"))
    loss.backward()
    allowed = {token for row in rows for choices in row.choices or () if len(choices) > 1 for token in choices.tolist()}
    head = model.get_output_embeddings().weight.grad
    assert set(torch.nonzero(head.abs().sum(1))[:, 0].tolist()) == allowed


def test_a_label_that_is_ruled_out_is_an_error(
    constraint: Constraint, examples: list[Example], chat_format: ChatFormat
) -> None:
    wrong = replace(examples[0], response="1. No Such Film")
    with pytest.raises(CtrlRecError, match=r"sl\.constrained=true constraint\.name=control: .* teaches '1\. No Such"):
        encode([wrong], chat_format, constraint)
