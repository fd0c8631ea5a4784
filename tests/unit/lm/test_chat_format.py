"""Prompts and responses as token ids."""

import copy
from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerFast

from ctrlrec.config.schema import ModelConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.chat_format import ChatFormat

MESSAGES = (("system", "Be kind."), ("user", "Amélie?"))


def test_prompts_follow_the_template_and_end_where_the_answer_begins(chat_format: ChatFormat) -> None:
    assert chat_format.text(MESSAGES) == "<|system|>Be kind.<|end|><|user|>Amélie?<|end|><|assistant|>"
    (tokens,) = chat_format.prompts([MESSAGES])
    assert chat_format.tokenizer.decode(tokens) == chat_format.text(MESSAGES)
    assert tokens[-1] == chat_format.tokenizer.convert_tokens_to_ids("<|assistant|>")
    assert chat_format.prompts([]) == []


def test_responses_end_with_the_end_token_and_are_cut(
    tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., ModelConfig]
) -> None:
    chat_format = ChatFormat(tokenizer, make_model_config(max_response_length=12))
    short, long = chat_format.responses(["1. M", "1. 千と千尋の神隠し\n2. Schindler's List (1993)"])
    assert short[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(short[:-1]) == "1. M"
    assert len(long) == 12
    assert chat_format.end not in long  # a cut answer has not ended
    assert chat_format.responses([]) == []


def test_a_response_is_tokenized_apart_from_its_prompt(chat_format: ChatFormat) -> None:
    """The boundary lies where generation starts, whatever a tokenizer could merge across it."""
    (prompt,), (response,) = chat_format.prompts([MESSAGES]), chat_format.responses(["1. Heat"])
    assert chat_format.tokenizer.decode([*prompt, *response]) == chat_format.text(MESSAGES) + "1. Heat<|end|>"


def test_limits_leave_room_for_the_response(chat_format: ChatFormat) -> None:
    limit = chat_format.limit()
    assert (limit.max_prompt, limit.max_response) == (640 - 160, 160)
    assert limit.prompt_tokens(MESSAGES) == len(chat_format.prompts([MESSAGES])[0])
    assert limit.text_tokens(["Heat", ""]) == [len(chat_format.responses(["Heat"])[0]) - 1, 0]


def test_unusable_tokenizers_are_refused(
    tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., ModelConfig]
) -> None:
    broken = copy.deepcopy(tokenizer)
    broken.eos_token = None
    assert ChatFormat(broken, make_model_config()).end == tokenizer.eos_token_id  # the template writes it
    broken.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(CtrlRecError, match="no end-of-sequence token"):
        ChatFormat(broken, make_model_config())
    broken.chat_template = None
    with pytest.raises(CtrlRecError, match="no chat template"):
        ChatFormat(broken, make_model_config())


def test_without_a_padding_token_the_end_token_pads(
    tokenizer: PreTrainedTokenizerFast, make_model_config: Callable[..., ModelConfig]
) -> None:
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = None
    chat_format = ChatFormat(bare, make_model_config())
    assert chat_format.pad == chat_format.end
