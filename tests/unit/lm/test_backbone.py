"""The backbone from scratch and its tokenizer."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ctrlrec.config.schema import ModelConfig
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions import templates
from ctrlrec.lm.backbone import load_model, load_tokenizer, make_tokenizer, train_tokenizer


@pytest.mark.parametrize("text", ["12 Angry Men (1957)", "千と千尋の神隠し", "Stalker 🎬", " a  b,\n\n1. ", "Ω≠ñ", ""])
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_title_has_the_same_tokens_in_a_history_and_in_an_answer(
    tokenizer: PreTrainedTokenizerFast, catalogue: Catalogue
) -> None:
    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def holds(text: str, title: str) -> bool:
        whole, part = ids(text), ids(title)
        return any(whole[begin : begin + len(part)] == part for begin in range(len(whole)))

    for title, other in pairwise(catalogue.titles):
        for task in ("sequential", "proportion_about"):
            shown = templates.prompt(task, 3, [other, title, other], catalogue.category_names[0], 30)
            assert holds(shown, title)
        assert holds(templates.answer([other, title, other]), title)


def test_specimens_hold_every_title_and_every_category(catalogue: Catalogue) -> None:
    text = "\n".join(templates.specimens(catalogue.titles, catalogue.category_names))
    assert all(f"'{title}'" in text and f". {title}" in text for title in catalogue.titles)
    assert all(f"'{name}'" in text for name in catalogue.category_names)


def test_a_saved_tokenizer_is_the_same(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    text = "1. Amélie (2001)\n2. 8 1/2"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.chat_template == tokenizer.chat_template
    assert (loaded.eos_token_id, loaded.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert loaded.eos_token_id != loaded.pad_token_id


def test_training_a_tokenizer_is_reproducible() -> None:
    texts = ["Heat", "Heat, The", "The Heat", "Amélie"] * 5
    first, second = train_tokenizer(texts, 300), train_tokenizer(texts, 300)
    assert first.get_vocab() == second.get_vocab()
    assert len(first) <= 300


def test_texts_are_read_only_where_a_tokenizer_is_trained(
    tmp_path: Path, make_model_config: Callable[..., ModelConfig], tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.save_pretrained(tmp_path)

    def never() -> list[str]:
        raise AssertionError

    config = make_model_config(kind="pretrained", path=str(tmp_path))
    assert len(make_tokenizer(config, tmp_path, never)) == len(tokenizer)


def test_initial_weights_are_set_by_the_seed_alone(
    tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    def weights(seed: int) -> PreTrainedModel:
        return load_model(make_model_config(), tmp_path, tokenizer, seed)

    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, same, other = weights(1).state_dict(), weights(1).state_dict(), weights(2).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_without_a_model_is_named(
    tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    for name, said in (
        ("nothing", r"model\.path=.*nothing: no such folder"),
        ("empty", r"model\.path=.*empty: .*config\.json is missing"),
        ("broken", r"broken/config\.json: no model_type in it.*check model\.path"),
    ):
        config = make_model_config(kind="pretrained", path=str(tmp_path / name))
        with pytest.raises(CtrlRecError, match=said):
            load_model(config, tmp_path, tokenizer, 0)


def test_an_attention_kernel_without_its_package_is_one_line(
    make_model_config: Callable[..., ModelConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("FlashAttention2 has been toggled on, but flash_attn is not installed\nHow to install it")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", missing)
    config = make_model_config(kind="pretrained", path=str(tmp_path), attention="flash_attention_2")
    with pytest.raises(CtrlRecError, match=r"cannot be loaded \(FlashAttention2 .* not installed\)"):
        load_model(config, tmp_path, Any, 0)  # type: ignore[arg-type]
