"""Chat templates of several families: one date for all days, no thinking, a known end, a place for the system turn."""

from collections.abc import Callable

import pytest
from chat_families import ENDS, family
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from ctrlrec.config.schema import ModelConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.chat_template import fix_template, render, takes_system_turn, turn_end

MakeConfig = Callable[..., ModelConfig]


@pytest.mark.parametrize("name", ENDS)
def test_an_answer_is_learnt_to_end_as_the_template_ends_it(name: str, make_model_config: MakeConfig) -> None:
    tokenizer = family(name)
    chat_format = ChatFormat(tokenizer, make_model_config(), ends=[7])
    own, turn = (tokenizer.convert_tokens_to_ids(token) for token in ENDS[name])
    assert chat_format.end == turn_end(tokenizer) == turn
    assert chat_format.ends == {own, turn, 7}
    (response,) = chat_format.responses(["1. Heat"])
    assert response[-1] == turn
    # What is learnt is what the template itself would have written.
    whole = tokenizer(
        render(tokenizer, ("user", "Hi"), ("assistant", "1. Heat"), prompt=False), add_special_tokens=False
    )
    (prompt,) = chat_format.prompts([(("user", "Hi"),)])
    if name != "qwen3":  # whose prompt closes the thinking first
        assert whole["input_ids"][: len(prompt) + len(response)] == prompt + response


def test_the_end_of_an_answer_is_no_part_of_its_text(make_model_config: MakeConfig) -> None:
    tokenizer = family("phi3")
    chat_format = ChatFormat(tokenizer, make_model_config(), ends=tokenizer.convert_tokens_to_ids(["x"]))
    (response,) = chat_format.responses(["1. Heat"])
    assert chat_format.decode(response) == "1. Heat" == chat_format.decode(response[:-1])
    assert chat_format.decode([*response[:-1], *tokenizer.convert_tokens_to_ids(["x"])]) == "1. Heat"
    assert chat_format.decode([]) == ""


def test_a_template_that_writes_no_end_leaves_the_tokenizers_own(make_model_config: MakeConfig) -> None:
    tokenizer = family("mistral")
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    assert turn_end(tokenizer) is None
    assert ChatFormat(tokenizer, make_model_config()).end == tokenizer.eos_token_id


class Tomorrow(chat_template_utils.datetime):  # type: ignore[name-defined,misc]
    @classmethod
    def now(cls) -> "Tomorrow":
        return cls(2031, 1, 2)


def test_the_date_of_a_prompt_is_the_configurations_on_every_day(
    make_model_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = family("llama3")
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert "Today Date: 02 Jan 2031\n" in render(tokenizer, ("user", "Hi"))
    fix_template(tokenizer, make_model_config(template_date="2024-02-09"))
    assert "Today Date: 09 Feb 2024\n" in render(tokenizer, ("user", "Hi"))


def test_a_date_that_cannot_be_fixed_is_refused(make_model_config: MakeConfig) -> None:
    tokenizer = family("llama3")
    tokenizer.chat_template = "{% set how = '%Y' %}{{ strftime_now(how) }}"
    with pytest.raises(CtrlRecError, match=r"model\.template_date"):
        fix_template(tokenizer, make_model_config(path="some/model"))


@pytest.mark.parametrize("thinking", [False, True])
def test_thinking_is_what_the_configuration_says(make_model_config: MakeConfig, thinking: bool) -> None:
    tokenizer = family("qwen3")
    fix_template(tokenizer, make_model_config(thinking=thinking))
    prompt = render(tokenizer, ("user", "Hi"))
    assert prompt.endswith("<|im_start|>assistant\n" if thinking else "<think>\n\n</think>\n\n")


@pytest.mark.parametrize("name", ["gemma", "mistral", "phi3"])
def test_a_template_without_date_and_thinking_stays_as_it_is(name: str, make_model_config: MakeConfig) -> None:
    tokenizer = family(name)
    before = tokenizer.chat_template
    fix_template(tokenizer, make_model_config())
    assert tokenizer.chat_template == before


def test_named_templates_need_a_default(make_model_config: MakeConfig) -> None:
    tokenizer = family("qwen3")
    tokenizer.chat_template = {"rag": tokenizer.chat_template, "tool_use": tokenizer.chat_template}  # type: ignore[assignment]
    with pytest.raises(CtrlRecError, match=r"templates rag, tool_use and none called default"):
        fix_template(tokenizer, make_model_config())
    tokenizer.chat_template["default"] = "{{ messages[0]['content'] }}"  # type: ignore[index,call-overload]
    fix_template(tokenizer, make_model_config())
    assert render(tokenizer, ("user", "Hi")) == "Hi"


@pytest.mark.parametrize("name", ENDS)
def test_a_system_turn_that_the_template_refuses_leads_the_first_user_turn(
    name: str, make_model_config: MakeConfig
) -> None:
    tokenizer = family(name)
    chat_format = ChatFormat(tokenizer, make_model_config())
    talk = (("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "And now?"))
    text = chat_format.text(talk)
    assert text.count("Be kind.") == 1
    assert chat_format.folds_system == (name in ("gemma", "mistral")) == (not takes_system_turn(tokenizer))
    if chat_format.folds_system:
        assert text == chat_format.text((("user", "Be kind.\n\nHi"), *talk[2:]))


def test_a_template_that_leaves_the_system_turn_out_counts_as_refusing_it(make_model_config: MakeConfig) -> None:
    tokenizer = family("phi3")
    tokenizer.chat_template = tokenizer.chat_template.replace("in messages", "in messages if m['role'] != 'system'")
    chat_format = ChatFormat(tokenizer, make_model_config())
    assert "Be kind." in chat_format.text((("system", "Be kind."), ("user", "Hi")))


def test_a_template_that_takes_no_question_is_refused(
    make_model_config: MakeConfig, tokenizer: PreTrainedTokenizerFast
) -> None:
    broken = family("qwen3")
    broken.chat_template = "{{ raise_exception('tools only') }}"
    with pytest.raises(CtrlRecError, match=r"refuses a user turn \(tools only\)"):
        ChatFormat(broken, make_model_config())
