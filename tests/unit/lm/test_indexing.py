"""Items that are one token each: spelt only where titles stand, read back as titles, with rows of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from answering import generate
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.decoder.decode import decode
from ctrlrec.generation.engines.base import in_order
from ctrlrec.instructions import templates
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.lm.adapters import check_base, merge, sample_weights, save_adapters, trainable_state, with_adapter
from ctrlrec.lm.backbone import load_model
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.indexing import add_rows, row_layers, start_from_teacher
from ctrlrec.lm.parsing import last_tokens, written_items
from ctrlrec.sl.module import response_loss
from ctrlrec.sl.stream import collate, encode


@pytest.fixture(scope="session")
def item_format(
    tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., Any], catalogue: Catalogue
) -> ChatFormat:
    return ChatFormat(tokenizer, make_model_config(), titles=catalogue.titles)


def items_in(item_format: ChatFormat, tokens: list[int]) -> list[int]:
    assert item_format.items is not None
    found = [item_format.items.item(token) for token in tokens]
    return [item for item in found if item is not None]


def test_an_answer_is_a_number_and_a_token_a_line(item_format: ChatFormat, catalogue: Catalogue) -> None:
    text = templates.answer(catalogue.titles)
    (tokens,) = item_format.responses([text])
    assert items_in(item_format, tokens) == list(range(len(catalogue)))
    assert item_format.decode(tokens) == text
    assert [item.title for item in written_items(item_format.decode(tokens))] == list(catalogue.titles)
    for item, title in enumerate(catalogue.titles):
        assert item_format.spell(title) == [len(item_format.tokenizer) + item]


def test_a_prompt_has_a_token_for_each_title_it_shows(
    item_format: ChatFormat, chat_format: ChatFormat, builder: InstructionBuilder
) -> None:
    examples = builder.epoch(0, ("sequential", "category", "proportion", "search"))
    for example in examples:
        asked = example.instruction
        (tokens,) = item_format.prompts([asked.messages])
        assert items_in(item_format, tokens) == [*asked.history, *(asked.candidates or ())]
        assert item_format.written(tokens) == chat_format.written(chat_format.prompts([asked.messages])[0])


@pytest.mark.parametrize(
    "text",
    [
        "M is a letter, and 1984 a year.",
        "The Heat, The (1995) of it",
        "Fargo!",
        "'Fargo is' cold",
        "x'Ran'",
        "12. Rant",
    ],
)
def test_words_that_are_no_title_there_stay_words(item_format: ChatFormat, chat_format: ChatFormat, text: str) -> None:
    assert item_format.contents([text]) == chat_format.contents([text])
    (prompt,) = item_format.prompts([(("user", text),)])
    assert prompt == chat_format.prompts([(("user", text),)])[0]


def test_marks_of_turns_in_a_text_with_titles_are_still_spelt_out(item_format: ChatFormat) -> None:
    (tokens,) = item_format.responses(["1. Fargo\n2. <|end|>\n3. Ran"])
    assert tokens.count(item_format.end) == 1 and tokens[-1] == item_format.end
    assert item_format.decode(tokens) == "1. Fargo\n2. <|end|>\n3. Ran"


def test_a_reward_stands_on_the_token_of_its_item(item_format: ChatFormat, catalogue: Catalogue) -> None:
    chosen = [5, 13, 0, 39]
    (tokens,) = item_format.responses([templates.answer([catalogue.titles[item] for item in chosen])])
    text = item_format.decode(tokens)
    ends = last_tokens(item_format.written, tokens, text, [item.end for item in written_items(text)])
    assert [tokens[place] for place in ends] == [len(item_format.tokenizer) + item for item in chosen]


@pytest.fixture
def item_model(
    item_format: ChatFormat, make_model_config: Callable[..., Any], tmp_path: Path
) -> Callable[[], PreTrainedModel]:
    def make() -> PreTrainedModel:
        return load_model(make_model_config(), tmp_path, item_format.tokenizer, 0, item_format.items).eval()

    return make


def test_a_model_from_scratch_starts_at_the_teachers_vectors(
    item_model: Callable[[], PreTrainedModel], item_format: ChatFormat, builder: InstructionBuilder
) -> None:
    model, items = item_model(), item_format.items
    assert items is not None
    before = model.get_input_embeddings().weight.detach().clone()
    assert len(before) == items.first + 40
    vectors = builder.ranker.model.item_embedding.weight[:40].detach()
    start_from_teacher(model, items, vectors, 3)
    rows = model.get_input_embeddings().weight.detach()
    assert torch.equal(rows[: items.first], before[: items.first])
    assert float(rows[items.first :].std()) == pytest.approx(float(before[: items.first].std()), rel=0.05)
    # Without the part of its own, a linear map of the vectors: a combination of them is the same combination of rows.
    own = before[items.first :]
    size = float(before[: items.first].std())
    projected = rows[items.first :] * 5**0.5 / size - 2 * own / own.std()
    weights = torch.linalg.lstsq(vectors[1:17].T.float(), vectors[20].float()[:, None]).solution
    assert torch.allclose(projected[1:17].T @ weights, projected[20][:, None], atol=1e-3)
    assert float(projected.std()) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_a_pretrained_models_rows_start_at_the_mean_of_their_titles(item_format: ChatFormat, tied: bool) -> None:
    model, items = pretrained(item_format, tied), item_format.items
    assert items is not None
    before = [layer.weight.detach().clone() for layer in layers_of(model)]
    add_rows(model, item_format.tokenizer, items)
    for layer, old in zip(layers_of(model), before, strict=True):
        assert torch.equal(layer.weight[: items.first], old[: items.first])
        for title in ("Fargo", "千と千尋の神隠し", "Se7en (1995)"):
            ids = item_format.tokenizer(title, add_special_tokens=False)["input_ids"]
            token = items.token(title)
            assert token is not None
            assert torch.allclose(layer.weight[token], old[ids].mean(0), atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_items_learn_beside_the_adapter_and_come_back(
    item_format: ChatFormat, builder: InstructionBuilder, tmp_path: Path, tied: bool
) -> None:
    items = item_format.items
    assert items is not None

    def base() -> PreTrainedModel:
        model = pretrained(item_format, tied)
        add_rows(model, item_format.tokenizer, items)
        return model

    model = base()
    assert len(row_layers(model)) == (1 if tied else 2)
    sample, words = sample_weights(model), layers_of(model)[0].weight[: items.first].detach().clone()
    adapted = with_adapter(model, 2, 4, items)
    names = list(trainable_state(adapted))
    assert sum("trainable_tokens_delta" in name for name in names) == (1 if tied else 2)
    optimizer = torch.optim.Adam([tensor for tensor in adapted.parameters() if tensor.requires_grad], lr=0.01)
    batch = collate(encode(builder.epoch(0, ("sequential",))[:6], item_format), item_format.pad, "padded")
    losses = []
    for _ in range(6):
        loss, tokens = response_loss(adapted, batch)
        (loss / tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    adapted.eval()
    with torch.no_grad():
        expected = adapted(input_ids=batch.ids).logits
    save_adapters(adapted, tmp_path, sample, item_format.tokenizer)
    check_base(tmp_path, base(), item_format.tokenizer)
    whole = merge(base(), tmp_path)
    assert not isinstance(whole, PeftModel)
    with torch.no_grad():
        assert torch.allclose(whole(input_ids=batch.ids).logits, expected, atol=1e-4)
    assert torch.allclose(layers_of(whole)[0].weight[: items.first], words, atol=1e-6)
    prompts = [row.prompt for row in encode(builder.epoch(0, ("sequential",))[:3], item_format)]
    native = in_order(decode(whole, prompts, item_format.ends, 8))
    reference = generate(whole, item_format, prompts, 8, "hf")
    assert [answer.tokens for answer in native] == [answer.tokens for answer in reference]


def test_a_server_is_given_the_tokens_of_items(item_format: ChatFormat, catalogue: Catalogue) -> None:
    plain = [title for title in catalogue.titles if title not in item_format.tokenizer.get_vocab()]
    served = ChatFormat(item_format.tokenizer, item_format.config, titles=plain)
    whole = served.whole_tokenizer()
    text = templates.answer(plain[5:9])
    assert [*whole(text, add_special_tokens=False)["input_ids"], served.end] == served.responses([text])[0]
    assert whole.decode(served.contents([text])[0]) == text
    assert len(item_format.tokenizer) == served.items.first  # type: ignore[union-attr]
    with pytest.raises(CtrlRecError, match="'M' is a token of the backbone already"):
        ChatFormat(item_format.tokenizer, item_format.config, titles=["M"]).whole_tokenizer()


def layers_of(model: PreTrainedModel) -> list[Any]:
    return [model.get_input_embeddings(), model.get_output_embeddings()]


def pretrained(item_format: ChatFormat, tied: bool) -> PreTrainedModel:
    """A small Llama with an output layer of its own unless ``tied``."""
    torch.manual_seed(1)
    shape = LlamaConfig(
        vocab_size=len(item_format.tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, tie_word_embeddings=tied, bos_token_id=None, eos_token_id=item_format.end,
        pad_token_id=item_format.pad,
    )  # fmt: skip
    return LlamaForCausalLM(shape).eval()
