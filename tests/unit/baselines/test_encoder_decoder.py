"""Encoder-decoder backbones: format, loss, adapters, answers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from answering import generate
from transformers import PreTrainedModel

from ctrlrec.config.schema import ModelConfig, SLConfig
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import with_adapter
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.parsing import written_items
from ctrlrec.lm.policy import load_policy
from ctrlrec.sl.data import SLData
from ctrlrec.sl.module import SupervisedModule, response_loss
from ctrlrec.sl.stream import IGNORED, Row, TrainingStream, collate, encode, split

Make = Callable[[], PreTrainedModel]


@pytest.fixture
def rows(builder: InstructionBuilder, t5_format: ChatFormat) -> list[Row]:
    return encode(builder.epoch(0, ("sequential", "category"))[:6], t5_format)


def test_a_prompt_is_plain_text_that_ends_with_the_end_token(t5_format: ChatFormat) -> None:
    messages = (("system", "Be brief."), ("user", "Two items, please."))
    assert t5_format.text(messages) == "Be brief.\nTwo items, please.</s>"
    (ids,) = t5_format.prompts([messages])
    assert ids[-1] == t5_format.end and t5_format.end not in ids[:-1]


def test_an_answer_keeps_its_lines(t5_format: ChatFormat) -> None:
    text = "1. Toy Story (1995)\n2. Alien\n3. Babe"
    answer = t5_format.decode(t5_format.responses([text])[0])
    assert [item.title for item in written_items(answer)] == ["Toy Story (1995)", "Alien", "Babe"]


def test_loss_is_that_of_the_response_row_by_row(make_t5: Make, rows: list, t5_format: ChatFormat) -> None:
    model = make_t5()
    loss, tokens = response_loss(model, collate(rows, t5_format.pad, "encoder_decoder"))
    assert tokens == sum(len(response) for _, response, *_ in rows)
    by_hand = 0.0
    for prompt, response, *_ in rows:
        opened = torch.tensor([[model.config.decoder_start_token_id, *response[:-1]]])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=opened).logits[0]
        by_hand -= float(torch.log_softmax(logits, -1)[torch.arange(len(response)), response].sum())
    assert float(loss) == pytest.approx(by_hand, rel=1e-4)


def test_greedy_takes_the_likeliest_token_and_no_batch_changes_it(
    make_t5: Make, rows: list, t5_format: ChatFormat
) -> None:
    model, prompts = make_t5(), [row.prompt for row in rows]
    answers = [answer.tokens for answer in generate(model, t5_format, prompts, 6, "auto", batch_size=4)]
    assert answers == [generate(model, t5_format, [prompt], 6, "auto")[0].tokens for prompt in prompts]
    for prompt, answer in zip(prompts, answers, strict=True):
        written = [model.config.decoder_start_token_id]
        for token in answer:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([written])).logits
            assert int(logits[0, -1].argmax()) == token
            written.append(token)


def test_an_adapter_learns_and_is_folded_in(
    make_t5: Make, t5_format: ChatFormat, t5_config: ModelConfig, builder: InstructionBuilder, tmp_path: Path,
    make_sl_config: Callable[..., SLConfig],
) -> None:  # fmt: skip
    config = make_sl_config(learning_rate=1e-2, batch_size=6)
    base = load_policy(t5_config, tmp_path, t5_format.tokenizer, 0)
    adapted = with_adapter(base, 4, 8)
    stream = TrainingStream(builder, ("sequential",), t5_format, 6, 3, "encoder_decoder")
    rows = encode(builder.validation()[:4], t5_format)
    validation = [("sequential", split(rows, 2, t5_format.pad, "encoder_decoder"))]
    module = SupervisedModule(adapted, config, 8, builder.seed)
    batch = collate(rows, t5_format.pad, "encoder_decoder")
    before = float(response_loss(adapted, batch)[0])
    fit = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    fit.fit(module, datamodule=SLData(stream, validation, 8, 1))
    adapted.eval()
    after = float(response_loss(adapted, batch)[0])
    assert after < before
    adapted.save_pretrained(str(tmp_path / "sl" / "adapter"))
    folded = load_policy(t5_config, tmp_path, t5_format.tokenizer, 0, tmp_path / "sl")
    assert float(response_loss(folded, batch)[0]) == pytest.approx(after, rel=1e-4)
    assert (batch.labels == IGNORED).any()
