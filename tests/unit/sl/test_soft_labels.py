"""Soft labels against distributions computed by hand from the written method (spec section 6)."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from ctrlrec.controls.instruction import Example, Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm import head
from ctrlrec.lm.backbone import load_model
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.sl import module
from ctrlrec.sl.data import SLData
from ctrlrec.sl.module import response_loss
from ctrlrec.sl.soft import SoftLabels, soft_loss
from ctrlrec.sl.stream import Layout, TrainingStream, collate, encode, split

FAMILIES = ("sequential", "category", "proportion", "search", "chat")


@pytest.fixture(scope="session")
def item_format(
    tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., Any], catalogue: Catalogue
) -> ChatFormat:
    return ChatFormat(tokenizer, make_model_config(), titles=catalogue.titles)


@pytest.fixture(scope="session")
def soft(builder: InstructionBuilder, item_format: ChatFormat) -> SoftLabels:
    assert item_format.items is not None
    return SoftLabels(builder.catalogue, builder.ranker, item_format.items, 0.5)


@pytest.fixture
def model(item_format: ChatFormat, make_model_config: Callable[..., Any], tmp_path: Any) -> PreTrainedModel:
    made = load_model(make_model_config(), tmp_path, item_format.tokenizer, 0, item_format.items)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "norm" not in name:
                parameter.mul_(4)
    return made.eval()


def test_the_loss_of_a_place_is_that_of_the_written_method() -> None:
    """Five items, of which 0, 2 and 3 are allowed; the rest of the vocabulary has a fifth of the probability."""
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.05]])  # 0.2 is left for other tokens
    scores = torch.tensor([[math.log(1.0), 9.0, math.log(2.0), math.log(5.0), 9.0]])
    allowed = torch.tensor([[True, False, True, True, False]])
    by_hand = -(1 / 8 * math.log(0.1) + 2 / 8 * math.log(0.3) + 5 / 8 * math.log(0.15))
    assert float(soft_loss(probabilities.log(), scores, allowed, 0.0)) == pytest.approx(by_hand, rel=1e-5)
    charged = by_hand - 4 * math.log(0.1 + 0.3 + 0.15)
    assert float(soft_loss(probabilities.log(), scores, allowed, 4.0)) == pytest.approx(charged, rel=1e-5)


def test_the_gradient_pulls_to_the_teacher_and_pushes_from_what_is_not_allowed() -> None:
    """With p the model's softmax, A its mass on the allowed items: p - q + w (p - p[A] / mass), by hand."""
    torch.manual_seed(0)
    logits = torch.randn(3, 9, requires_grad=True)  # six items and three other tokens
    scores, allowed = torch.randn(3, 6), torch.tensor([[1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0], [1] * 6]).bool()
    soft_loss(torch.log_softmax(logits, -1)[:, :6], scores, allowed, 2.5).backward()
    for row in range(3):
        p = torch.softmax(logits[row].detach(), -1)
        weights = [math.exp(float(scores[row, item])) * bool(allowed[row, item]) for item in range(6)]
        inside = [float(p[item]) * bool(allowed[row, item]) for item in range(6)]
        for token in range(9):
            q = weights[token] / sum(weights) if token < 6 else 0.0
            share = inside[token] / sum(inside) if token < 6 else 0.0
            expected = float(p[token]) - q + 2.5 * (float(p[token]) - share)
            assert float(logits.grad[row, token]) == pytest.approx(expected, abs=1e-5)  # type: ignore[index]


def allowed_by_hand(example: Example, place: int, catalogue: Catalogue) -> set[str]:
    """The titles allowed at a place, from the words of spec section 6 and from titles alone."""
    asked, titles = example.instruction, catalogue.titles
    left = {titles[item] for item in (range(len(titles)) if asked.candidates is None else asked.candidates)}
    left -= {titles[item] for item in asked.history} | {titles[item] for item in example.labels[:place]}
    names = [condition.category for condition in asked.conditions] or [asked.category]
    for name in (name for name in names if name is not None):
        own = {title for title, categories in zip(titles, catalogue.categories, strict=True) if name in categories}
        left &= own if titles[example.labels[place]] in own else set(titles) - own
    return left


@pytest.mark.parametrize("blends", [0.0, 0.7])
def test_allowed_items_are_those_of_the_written_method(
    make_builder: Callable[..., InstructionBuilder], soft: SoftLabels, item_format: ChatFormat, blends: float
) -> None:
    builder = make_builder(blend_share=blends)
    examples = builder.epoch(0, FAMILIES)
    tasks: dict[str, int] = {}
    for example, row in zip(examples, encode(examples, item_format, soft=soft), strict=True):
        task = example.instruction.task
        if task == "chat":
            assert row.soft is None
            continue
        assert row.soft is not None
        hard = [] if task == "search" else [example.labels.index(example.instruction.target)]  # type: ignore[arg-type]
        places = [place for place in range(len(example.labels)) if place not in hard]
        assert hard in ([], [0])
        assert row.soft.places == [2 * place + 1 for place in places]  # a number and an item a line
        for place, allowed in zip(places, row.soft.allowed, strict=True):
            found = {builder.catalogue.titles[item] for item in allowed.nonzero()[:, 0].tolist()}
            assert found == allowed_by_hand(example, place, builder.catalogue)
            assert bool(allowed[example.labels[place]])
        if task == "search":
            assert not row.soft.scores.any()
        else:
            scores = builder.ranker.scores([example.instruction.history])[0] / 0.5
            assert torch.allclose(row.soft.scores, scores.float())
        tasks[task] = tasks.get(task, 0) + len(places)
    assert {"sequential", "search"} <= tasks.keys() and ("blend" in tasks) == bool(blends)


def test_the_ground_truth_keeps_its_hard_label_wherever_it_stands(
    soft: SoftLabels, item_format: ChatFormat, builder: InstructionBuilder
) -> None:
    def example(target: int | None) -> Example:
        instruction = Instruction("sequential", "u", (1, 2), target, 3, None, None, None, (("user", "?"),))
        text = templates.answer([builder.catalogue.titles[item] for item in (5, 6, 7)])
        return Example(instruction, text, (5, 6, 7), (0, 1, 2))

    for target, places in ((5, [3, 5]), (6, [1, 5]), (9, [1, 3, 5])):
        (row,) = encode([example(target)], item_format, soft=soft)
        assert row.soft is not None and row.soft.places == places


def test_a_response_that_is_cut_keeps_the_places_that_are_left(
    tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., Any], soft: SoftLabels,
    builder: InstructionBuilder,
) -> None:  # fmt: skip
    short = ChatFormat(tokenizer, make_model_config(max_response_length=8), titles=builder.catalogue.titles)
    long = [example for example in builder.epoch(0, ("sequential",)) if len(example.labels) > 5]
    for row in encode(long, short, soft=soft):
        assert len(row.response) == 8
        assert row.soft is not None and row.soft.places == [3, 5, 7] and len(row.soft.allowed) == 3


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_loss_of_a_batch_is_that_of_its_places_one_by_one(
    model: PreTrainedModel, soft: SoftLabels, item_format: ChatFormat, builder: InstructionBuilder, layout: Layout
) -> None:
    examples = [example for example in builder.epoch(0, FAMILIES) if len(example.labels) != 1][::7]
    rows = encode(examples, item_format, soft=soft)
    first, by_hand = len(item_format.tokenizer), 0.0
    assert {example.instruction.task for example in examples} >= {"sequential", "search", "chat"}
    for prompt, response, _, labels in rows:
        with torch.no_grad():
            scored = torch.log_softmax(model(input_ids=torch.tensor([prompt + response])).logits[0], -1).double()
        at = {} if labels is None else dict(zip(labels.places, labels.allowed.numpy(), strict=True))
        for place, token in enumerate(response):
            log_probs = scored[len(prompt) - 1 + place].numpy()
            if place not in at:
                by_hand -= log_probs[token]
                continue
            inside = np.flatnonzero(at[place])
            weights = np.exp(labels.scores.double().numpy()[inside])  # type: ignore[union-attr]
            by_hand -= float((weights / weights.sum() * log_probs[first + inside]).sum())
            by_hand -= 3 * math.log(np.exp(log_probs[first + inside]).sum())
    loss, tokens = 0.0, 0
    for batch in split(rows, 5, item_format.pad, layout):
        part, count = response_loss(model, batch, first, 3.0)
        loss, tokens = loss + float(part.detach()), tokens + count
    assert tokens == sum(len(row.response) for row in rows)
    assert loss == pytest.approx(by_hand, rel=1e-4)


def test_sharper_labels_are_those_of_a_lower_temperature(
    model: PreTrainedModel, soft: SoftLabels, item_format: ChatFormat, builder: InstructionBuilder
) -> None:
    assert item_format.items is not None
    colder = SoftLabels(builder.catalogue, builder.ranker, item_format.items, 0.125)
    examples, losses = builder.epoch(0, FAMILIES)[:6], []
    for labels, sharpness in ((soft, 4.0), (colder, 1.0), (soft, 1.0)):
        batch = collate(encode(examples, item_format, soft=labels), item_format.pad, "packed")
        loss, _ = response_loss(model, batch, len(item_format.tokenizer), 1.5, sharpness=sharpness)
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] != pytest.approx(losses[2], rel=1e-4)


def test_the_temperature_falls_over_the_second_half_of_the_steps(
    model: PreTrainedModel, item_format: ChatFormat, builder: InstructionBuilder, make_sl_config: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    seen: dict[bool, list[float]] = {True: [], False: []}

    def noted(*options: Any) -> tuple[torch.Tensor, int]:
        seen[torch.is_grad_enabled()].append(options[-1])
        return response_loss(*options)

    monkeypatch.setattr(module, "response_loss", noted)
    config = make_sl_config(max_steps=8, validations=2, soft_labels=0.3, soft_labels_end=0.1)
    stream = TrainingStream(builder, ("sequential",), item_format, 4, 4, "packed")
    questions = [("sequential", split(encode(builder.validation()[:4], item_format), 4, item_format.pad, "packed"))]
    data = SLData(stream, questions, 8, 2)
    fit = pl.Trainer(
        max_epochs=data.intervals, accelerator="cpu", logger=False, enable_checkpointing=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        reload_dataloaders_every_n_epochs=1,
    )  # fmt: skip
    fit.fit(module.SupervisedModule(model, config, 8, builder.seed), data)
    assert [0.3 / sharpness for sharpness in seen[True]] == pytest.approx([0.3] * 5 + [0.2, 0.15, 0.12])
    assert [0.3 / sharpness for sharpness in seen[False]] == pytest.approx([0.1, 0.1])


def test_a_head_in_chunks_changes_nothing(
    model: PreTrainedModel, soft: SoftLabels, item_format: ChatFormat, builder: InstructionBuilder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first, size = len(item_format.tokenizer), model.config.vocab_size
    monkeypatch.setattr(head, "_SCORES", 7 * size)
    batch = collate(encode(builder.epoch(0, FAMILIES)[:6], item_format, soft=soft), item_format.pad, "packed")
    found = []
    for chunked in (False, True):
        model.zero_grad()
        loss, tokens = response_loss(model, batch, first, 1.5, chunked)
        assert tokens > 50
        (loss / tokens).backward()
        found.append((float(loss.detach()), torch.cat([one.grad.flatten() for one in model.parameters()])))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    assert float((found[1][1] - found[0][1]).abs().max()) < 1e-6 * max(1.0, float(found[0][1].abs().max()))


def test_every_weight_gets_a_gradient_through_soft_places_alone(
    model: PreTrainedModel, soft: SoftLabels, item_format: ChatFormat, builder: InstructionBuilder
) -> None:
    (example,) = [one for one in builder.epoch(0, ("sequential",)) if len(one.labels) > 4][:1]
    (row,) = encode([example], item_format, soft=soft)
    batch = collate([row], item_format.pad, "padded")
    assert batch.soft is not None
    hard = (batch.soft.at < 0) & (batch.labels >= 0)
    batch.labels[hard] = -100
    loss, tokens = response_loss(model, batch, len(item_format.tokenizer), 1.0)
    assert tokens == len(example.labels) - 1
    loss.backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in model.parameters() if parameter.grad is not None)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_hard_labels_are_those_of_before(
    model: PreTrainedModel, item_format: ChatFormat, builder: InstructionBuilder
) -> None:
    stream = TrainingStream(builder, FAMILIES, item_format, 8, 4, "packed")
    assert all(batch.soft is None for batch in stream.batch(0))
    chat = [example for example in builder.epoch(0, FAMILIES) if example.instruction.task == "chat"]
    assert collate(encode(chat, item_format), item_format.pad, "packed").soft is None
