"""How an item is spelt (``indexing=``, spec section 10): as the tokens of its title, or as one token of its own."""

import copy
import re
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest
from typing import Any

import torch
from tokenizers import AddedToken
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.inert_text import InertText

TITLE, ITEM_TOKEN = "title", "item_token"

_OWN_PART = 2.0  # of a row that starts at the teacher's vector

# A noncharacter of Unicode, which stands for an item until its text is encoded.
_ITEM = "\ufdd3"
# Where a title stands: as a line of an answer, or in a prompt between quotes and followed by one of these signs.
_LINE = re.compile(r"^(\s*\d{1,4}\. )?(.+)$", re.MULTILINE)
_OPENING, _CLOSING = re.compile(r"(?<!\w)'(?!\s)"), re.compile(r"'(?=[\s,.:;\])]|$)")


class ItemTokens:
    """One token an item, after all tokens of a backbone's tokenizer.

    A title is read as its token only where a title stands: as a line of an answer, and between quotes in a prompt. The
    same words elsewhere stay words, however short the title is.

    Args:
        titles: of the catalogue, in its order.
        tokenizer: of the backbone.

    Attributes:
        first: the token of the first item; the others follow in the order of the catalogue.
    """

    def __init__(self, titles: Sequence[str], tokenizer: PreTrainedTokenizerBase):
        self.titles, self.first = tuple(titles), len(tokenizer)
        self._token = {title: self.first + item for item, title in enumerate(self.titles)}

    def __len__(self) -> int:
        return len(self.titles)

    def token(self, title: str) -> int | None:
        """Return the token of a title; None for a text that is not a title."""
        return self._token.get(title)

    def item(self, token: int) -> int | None:
        """Return the catalogue index of an item's token; None for any other token."""
        return token - self.first if token >= self.first else None

    def mark(self, text: str) -> tuple[str, list[int]]:
        """Return a text with a sign in place of every title, and the tokens that the signs stand for, in order."""
        tokens: list[int] = []

        def line(found: re.Match[str]) -> str:
            number, words = found[1] or "", found[2]
            if words not in self._token and found[0] in self._token:  # a title that begins like a numbered line
                number, words = "", found[0]
            if words not in self._token:
                return number + self._mark_quoted(words, tokens)
            tokens.append(self._token[words])
            return number + _ITEM

        return _LINE.sub(line, text.replace(_ITEM, "")), tokens

    def _mark_quoted(self, text: str, tokens: list[int]) -> str:
        """Return a line with a sign for each quoted title, whose tokens are added to ``tokens``."""
        parts, begin, opening = [], 0, _OPENING.search(text)
        while opening:
            place, closing = opening.end(), _CLOSING.search(text, opening.end())
            while closing and text[place : closing.start()] not in self._token:
                closing = _CLOSING.search(text, closing.end())
            if closing:
                tokens.append(self._token[text[place : closing.start()]])
                parts.append(text[begin:place] + _ITEM)
                begin = closing.start()
                place = closing.end()
            opening = _OPENING.search(text, place)
        return "".join([*parts, text[begin:]])

    def encode(self, inert: InertText, marked: Sequence[tuple[str, Sequence[int]]]) -> list[list[int]]:
        """Return the token ids of guarded texts, each with the tokens that its signs stand for.

        What lies between two items is encoded by itself.
        """
        parts = [text.split(_ITEM) for text, _ in marked]
        encoded = iter(inert.encode([part for texts in parts for part in texts]))
        rows = []
        for texts, (_, tokens) in zip(parts, marked, strict=True):
            row: list[int] = []
            for words, token in zip_longest([next(encoded) for _ in texts], tokens):
                row += words if token is None else [*words, token]
            rows.append(row)
        return rows

    def added_to(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """Return a copy of a tokenizer that holds the tokens of items too.

        It reads a title as its token wherever the text has it.

        Raises:
            CtrlRecError: for a title that is a token of the tokenizer already, and cannot be another one too.
        """
        whole = copy.deepcopy(tokenizer)
        whole.add_tokens([AddedToken(title, normalized=False) for title in self.titles])
        for title, token in self._token.items():
            if whole.convert_tokens_to_ids(title) != token:
                raise CtrlRecError(
                    f"indexing.name={ITEM_TOKEN}: the title '{title}' is a token of the backbone already, and a "
                    "tokenizer's file cannot hold it twice; leave the item out of the data, or use indexing=title"
                )
        return whole

    def decode(self, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
        """Return the text of tokens, with titles in the place of the items' tokens and without special tokens."""
        return "".join(self._texts(tokenizer, tokens))

    def _texts(self, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> Iterator[str]:
        for is_item, group in groupby(tokens, lambda token: token >= self.first):
            if is_item:
                yield "".join(self.titles[token - self.first] for token in group)
            else:
                yield str(tokenizer.decode(list(group), skip_special_tokens=True))


def add_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: ItemTokens) -> None:
    """Give a pretrained backbone a row for each item: the mean of the rows of its title's tokens.

    Args:
        model: changed in place; an output layer that is not tied to the embedding gets rows of its own.
        tokenizer: spells the titles.
        items: the tokens.
    """
    inert = InertText(tokenizer)
    spelt = inert.encode([inert.guard(title) for title in items.titles])
    last = items.first + len(items)
    if last > len(_rows(model)[0]):
        model.resize_token_embeddings(last, mean_resizing=False)
    with torch.no_grad():
        for weight in {id(rows): rows for rows in _rows(model)}.values():
            weight[items.first : last] = torch.stack([weight[ids].float().mean(0) for ids in spelt]).to(weight.dtype)


def start_from_teacher(model: PreTrainedModel, items: ItemTokens, vectors: torch.Tensor, seed: int) -> None:
    """Start the rows of items at the teacher's embeddings, projected at random, beside a part of their own.

    The teacher's vectors of similar items are similar, and a model that lists one of them has to tell it from the
    others: their own parts, twice as large, stand almost at right angles. A row has the size of the other rows.

    Args:
        model: from scratch, with rows that were drawn at random; changed in place.
        items: the tokens.
        vectors: (n_items, d) item embeddings of the teacher.
        seed: of the projection.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in {id(rows): rows for rows in _rows(model)}.values():
            projection = torch.randn(vectors.shape[1], weight.shape[1], generator=generator)
            projected = vectors.float().cpu() @ projection
            own = weight[items.first : items.first + len(items)]
            scale = weight[: items.first].std()
            mixed = projected / projected.std() + _OWN_PART * own / own.std()
            own.copy_(scale * mixed / (1 + _OWN_PART**2) ** 0.5)


def row_layers(model: PreTrainedModel) -> list[str]:
    """Return the names of the layers that hold a row for each token: the embedding, and the head unless it is tied."""
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    tied = layers[0].weight is layers[1].weight
    wanted = layers[:1] if tied else layers
    return [name.rpartition(".")[2] for name, module in model.named_modules() if any(module is one for one in wanted)]


def _rows(model: PreTrainedModel) -> list[torch.Tensor]:
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [layer.weight for layer in layers]
