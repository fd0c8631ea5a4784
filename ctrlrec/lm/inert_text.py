"""Text of users and catalogues to token ids, so that no part of it can pass for a part of the chat template."""

import copy
import itertools
import re
from collections.abc import Sequence
from functools import cached_property

from jinja2 import TemplateError
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from ctrlrec.lm.chat_template import CONTENT, render

# Noncharacters of Unicode: they occur in no text that is meant to be exchanged.
_SPLIT = "\ufdd0\ufdd1"
# How templates without special tokens mark a turn: [INST], <<SYS>>, USER:.
_WORD = re.compile(r"<+[^<>\s]+>+|\[[^\[\]\s]+\]|\w+:")
_CONVERSATIONS = (("system", "user", "assistant", "user"), ("user", "assistant", "user"), ("user",))


class InertText:
    """Encodes texts in which every marker is spelt out character by character, and all else as ever.

    A marker is a special token of the tokenizer, or a word with which its chat template marks a turn. A tokenizer takes
    ``<|end|>`` in a title for the end of the answer; spelt out, it is other tokens than the template's and decodes to
    the same text. Texts without a marker are encoded by the tokenizer alone: their tokens do not change.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        words = {*special, *tokenizer.all_special_tokens, *_template_words(tokenizer), _SPLIT} - {""}
        longest_first = sorted(words, key=lambda word: (-len(word), word))
        self._marker = re.compile("|".join(map(re.escape, longest_first)))

    def guard(self, text: str) -> str:
        """Return the text as a template may hold it, with a split sign between the characters of its markers."""
        cuts: set[int] = set()
        found = self._marker.search(text)
        while found:
            cuts.update(range(found.start() + 1, found.end()))
            found = self._marker.search(text, found.start() + 1)  # markers may overlap
        places = [0, *sorted(cuts), len(text)]
        return _SPLIT.join(text[begin:end] for begin, end in itertools.pairwise(places)) if cuts else text

    def encode(self, guarded: Sequence[str]) -> list[list[int]]:
        """Return token ids of guarded texts, which may lie in a rendered template; the template's markers count."""
        if not guarded:
            return []
        rows: list[list[int]] = self.tokenizer(list(guarded), add_special_tokens=False)["input_ids"]  # type: ignore[assignment]
        for index, text in enumerate(guarded):
            if _SPLIT in text:
                ids = self._splitting(text, add_special_tokens=False)["input_ids"]
                split = self._splitting.convert_tokens_to_ids(_SPLIT)
                rows[index] = [token for token in ids if token != split]  # type: ignore[union-attr]
        return rows

    @cached_property
    def _splitting(self) -> PreTrainedTokenizerBase:
        """The tokenizer with one more token, the split sign: nothing is merged across it."""
        tokenizer = copy.deepcopy(self.tokenizer)
        tokenizer.add_tokens([AddedToken(_SPLIT, normalized=False)], special_tokens=True)  # type: ignore[arg-type]
        return tokenizer


def _template_words(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    """Return words of the chat template around the contents of a conversation that look like the mark of a turn."""
    for roles in _CONVERSATIONS:
        try:
            rendered = render(tokenizer, *((role, CONTENT) for role in roles))
        except TemplateError:  # the template has no system turn
            continue
        return set(_WORD.findall(rendered.replace(CONTENT, " ")))
    return set()
