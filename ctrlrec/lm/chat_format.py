"""Conversations to token ids, with the backbone's own chat template."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ctrlrec.config.compose import typed
from ctrlrec.config.schema import ModelConfig
from ctrlrec.controls.instruction import Messages
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.backbone import load_ends, load_tokenizer
from ctrlrec.lm.chat_template import render, takes_system_turn, turn_end
from ctrlrec.lm.indexing import ItemTokens
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

    Attributes:
        end: the token that ends a learnt answer: the one that the template writes after an assistant's turn, else the
            tokenizer's end-of-sequence token.
        ends: all tokens that end a generated answer.
        pad: the token that pads rows.
        folds_system: whether the template takes no system turn; its text then leads the first user turn.
        items: the tokens of items; None if an item is spelt as its title.

    Args:
        tokenizer: with a chat template.
        config: of the model.
        ends: further tokens that end an answer, those of the model's generation config.
        titles: of the catalogue if every item has a token of its own (``indexing=item_token``).

    Raises:
        CtrlRecError: for a tokenizer without a chat template or without a token that ends an answer, or a template that
            refuses a user turn.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: ModelConfig,
        ends: Collection[int] = (),
        titles: Sequence[str] = (),
    ):
        name = f"model {config.path or config.name}"
        if not tokenizer.chat_template:
            raise CtrlRecError(f"{name}: its tokenizer has no chat template; use a chat model")
        try:
            render(tokenizer, ("user", "?"))
        except (TemplateError, ValueError) as error:
            raise CtrlRecError(f"{name}: its chat template refuses a user turn ({error}); use a chat model") from None
        end = turn_end(tokenizer)
        known = [token for token in (end, tokenizer.eos_token_id, *sorted(ends)) if token is not None]
        if not known:
            raise CtrlRecError(f"{name}: its tokenizer has no end-of-sequence token, nor has its template one")
        self.tokenizer, self.config = tokenizer, typed(config)
        self.inert = InertText(tokenizer)
        self.end, self.ends = int(known[0]), frozenset(map(int, known))
        self.pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.end)
        self.folds_system = not takes_system_turn(tokenizer)
        self.items = ItemTokens(titles, tokenizer) if titles else None

    @classmethod
    def load(cls, directory: Path, config: ModelConfig, titles: Sequence[str] = ()) -> "ChatFormat":
        """Load the tokenizer that the data stage kept, with the ends of the model's answers; arguments as above."""
        return cls(load_tokenizer(directory), config, load_ends(directory), titles)

    @property
    def encoder_decoder(self) -> bool:
        """Whether prompt and response are two sequences instead of one that continues."""
        return self.config.kind == "encoder_decoder"

    def text(self, messages: Messages) -> str:
        """Render a conversation under the chat template, contents guarded, up to where the assistant answers."""
        return render(self.tokenizer, *((role, self.inert.guard(content)) for role, content in self.turns(messages)))

    def turns(self, messages: Messages) -> Messages:
        """Return a conversation as the template takes it: a refused system turn leads the first user turn."""
        if not (self.folds_system and messages[0][0] == "system"):
            return messages
        (_, told), (role, asked), *others = messages
        return ((role, f"{told}\n\n{asked}"), *others)

    def prompts(self, conversations: Sequence[Messages]) -> list[list[int]]:
        """Return token ids of many prompts."""
        if self.items is None:
            return self.inert.encode([self.text(messages) for messages in conversations])
        marked = []
        for messages in conversations:
            contents = [self.items.mark(content) for _, content in messages]
            turns = tuple((role, content) for (role, _), (content, _) in zip(messages, contents, strict=True))
            marked.append((self.text(turns), [token for _, tokens in contents for token in tokens]))
        return self.items.encode(self.inert, marked)

    def contents(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids of many texts outside any template."""
        if self.items is None:
            return self.inert.encode([self.inert.guard(text) for text in texts])
        marked = [self.items.mark(text) for text in texts]
        return self.items.encode(self.inert, [(self.inert.guard(text), tokens) for text, tokens in marked])

    def spell(self, title: str) -> list[int]:
        """Return the token ids of a title where an answer has nothing in front of it that merges with it."""
        return self.contents([title])[0]

    def responses(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids of many responses with the token that ends them; cut to ``model.max_response_length``."""
        return [[*row, self.end][: self.config.max_response_length] for row in self.contents(texts)]

    def decode(self, tokens: list[int]) -> str:
        """Decode the text of an answer without its end and special tokens."""
        ended = bool(tokens) and tokens[-1] in self.ends
        return self.written(tokens[:-1] if ended else tokens)

    def written(self, tokens: list[int]) -> str:
        """Return the text of tokens as it stands in files, titles in the place of items, without special tokens."""
        if self.items is None:
            return str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        return self.items.decode(self.tokenizer, tokens)

    def whole_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer with the tokens of items, as a server reads it."""
        return self.tokenizer if self.items is None else self.items.added_to(self.tokenizer)

    def limit(self) -> PromptLimit:
        """Return what the instruction builder needs to keep prompts within their length."""
        return PromptLimit(
            prompt_tokens=lambda messages: len(self.prompts([messages])[0]),
            text_tokens=lambda texts: [len(row) for row in self.contents(texts)],
            max_prompt=self.config.max_length - self.config.max_response_length,
            max_response=self.config.max_response_length,
            system_prompt=self.config.system_prompt,
        )
