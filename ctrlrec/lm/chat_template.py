"""A backbone's chat template: its date is fixed, and it is searched for the token that ends an answer."""

import datetime
import re

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ctrlrec.config.schema import ModelConfig
from ctrlrec.errors import CtrlRecError

CONTENT = "\ufdd2"  # a noncharacter of Unicode: it occurs in no text that is meant to be exchanged
_DATE = re.compile(r"""strftime_now\(\s*(?:'([^'\\]*)'|"([^"\\]*)")\s*\)""")
_THINKING = ("enable_thinking", "thinking")  # Qwen3, SmolLM3 and GLM; Granite and DeepSeek


def fix_template(tokenizer: PreTrainedTokenizerBase, config: ModelConfig) -> None:
    """Write date and thinking into the chat template, so that training, answering and serving see one prompt.

    A template that asks for today's date gets ``model.template_date``, one that asks whether the model thinks before it
    answers gets ``model.thinking``. All other templates stay as they are.

    Raises:
        CtrlRecError: if there are named templates and none called default, or the date cannot be fixed.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        if "default" not in template:
            raise CtrlRecError(
                f"model {config.path or config.name}: its tokenizer has the chat templates "
                f"{', '.join(sorted(template))} and none called default; rename the one to use to default"
            )
        template = template["default"]
    if not template:
        return
    day = datetime.date.fromisoformat(config.template_date)
    template = _DATE.sub(lambda call: repr(day.strftime(call[1] or call[2] or "")), template)
    if "strftime_now(" in template:
        raise CtrlRecError(
            f"model {config.path or config.name}: its chat template computes how it writes today's date, so that "
            "model.template_date cannot take its place; write a date into the template"
        )
    asked = [name for name in _THINKING if re.search(rf"\b{name}\b", template)]
    tokenizer.chat_template = (
        "".join(f"{{% set {name} = {str(config.thinking).lower()} %}}" for name in asked) + template
    )


def render(tokenizer: PreTrainedTokenizerBase, *turns: tuple[str, str], prompt: bool = True) -> str:
    """Return a conversation of (role, content) under the chat template.

    Args:
        tokenizer: with a chat template.
        turns: of the conversation.
        prompt: whether the text continues to where the assistant's answer begins.

    Raises:
        TemplateError: if the template refuses the conversation.
    """
    messages = [{"role": role, "content": content} for role, content in turns]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    assert isinstance(rendered, str)
    return rendered


def takes_system_turn(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether the template writes a system turn; some refuse it, some leave it out."""
    try:
        return CONTENT in render(tokenizer, ("system", CONTENT), ("user", "?"))
    except TemplateError:
        return False


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the token that the template writes after an assistant's turn; None if it writes none."""
    try:
        rendered = render(tokenizer, ("user", "?"), ("assistant", CONTENT), prompt=False)
    except TemplateError:
        return None
    ids = tokenizer(rendered.rpartition(CONTENT)[2], add_special_tokens=False)["input_ids"]
    added = tokenizer.added_tokens_decoder
    return next((token for token in ids if token in added and added[token].content.strip()), None)  # type: ignore[union-attr]
