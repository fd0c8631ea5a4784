"""Conversations to token ids, with the backbone's own chat template."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from ctrlrec.config.compose import typed
from ctrlrec.config.schema import ModelConfig
from ctrlrec.controls.instruction import Messages
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.inert_text import InertText


@dataclass(frozen=True, slots=True)
class PromptLimit:
    """How long prompts may be, in tokens of the backbone.

    Attributes:
        prompt_tokens: tokens of a conversation under the chat template, generation prompt included.
        text_tokens: tokens of each of many texts.
        max_prompt: largest prompt (spec section 3: 1024 in all less 512 for the response).
        max_response: largest response.
        system_prompt: leading system turn; None for none.
    """

    prompt_tokens: Callable[[Messages], int]
    text_tokens: Callable[[list[str]], list[int]]
    max_prompt: int
    max_response: int
    system_prompt: str | None


class ChatFormat:
    """Renders and tokenizes prompts and responses.

    A response is tokenized apart from its prompt, because generation continues exactly there: what is learnt and what
    is sampled then meet at the same token boundary. What users, catalogues and dialogues say stays text, whatever it
    looks like (:class:`InertText`).

    Raises:
        CtrlRecError: for a tokenizer without a chat template or without an end-of-sequence token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig):
        if not tokenizer.chat_template:
            raise CtrlRecError(
                f"model {config.path or config.name}: its tokenizer has no chat template; use a chat model"
            )
        if tokenizer.eos_token_id is None:
            raise CtrlRecError(f"model {config.path or config.name}: its tokenizer has no end-of-sequence token")
        self.tokenizer, self.config = tokenizer, typed(config)
        self.inert = InertText(tokenizer)
        self.end = int(tokenizer.eos_token_id)
        self.pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    @property
    def encoder_decoder(self) -> bool:
        """Whether prompt and response are two sequences instead of one that goes on."""
        return self.config.kind == "encoder_decoder"

    def text(self, messages: Messages) -> str:
        """A conversation under the chat template, its contents guarded, ending where the assistant's answer begins."""
        turns = [{"role": role, "content": self.inert.guard(content)} for role, content in messages]
        rendered = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert isinstance(rendered, str)
        return rendered

    def prompts(self, conversations: Sequence[Messages]) -> list[list[int]]:
        """Token ids of many prompts."""
        return self.inert.encode([self.text(messages) for messages in conversations])

    def contents(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of many texts outside any template."""
        return self.inert.encode([self.inert.guard(text) for text in texts])

    def responses(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of many responses with the end-of-sequence token; cut to ``model.max_response_length``."""
        return [[*row, self.end][: self.config.max_response_length] for row in self.contents(texts)]

    def decode(self, tokens: list[int]) -> str:
        """The text of an answer, special tokens left out."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def limit(self) -> PromptLimit:
        """What the instruction builder needs to know to keep prompts within their length."""
        return PromptLimit(
            prompt_tokens=lambda messages: len(self.prompts([messages])[0]),
            text_tokens=lambda texts: [len(row) for row in self.contents(texts)],
            max_prompt=self.config.max_length - self.config.max_response_length,
            max_response=self.config.max_response_length,
            system_prompt=self.config.system_prompt,
        )
