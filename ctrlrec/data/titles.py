"""Titles as they are written, cut and looked up."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

_QUOTES = (("'", "'"), ('"', '"'), ("\u2018", "\u2019"), ("\u201c", "\u201d"))


class AnswerIndex:
    """Positions of titles, found by what an answer writes.

    A title matches exactly, except for outer quotes, which parsing drops, and its Unicode
    normal form, which a tokenizer may change.
    """

    def __init__(self, titles: Sequence[str]) -> None:
        """Index titles that differ in more than outer quotes and normal form."""
        whole = {composed(title): position for position, title in enumerate(titles)}
        inner = {form: position for title, position in whole.items() for form in _peeled(title)}
        self._positions = inner | whole

    def get(self, written: str) -> int | None:
        """Return the position of a written title, or None."""
        position = self._positions.get(written)
        return position if position is not None or written.isascii() else self._positions.get(composed(written))


def composed(text: str) -> str:
    """Return a text in Unicode's normal form C, in which titles and categories are kept."""
    return unicodedata.normalize("NFC", text)


def unquoted(title: str) -> str:
    """Return a title without one pair of outer quotes and the white space inside them."""
    for opening, closing in _QUOTES:
        if len(title) >= 2 and title.startswith(opening) and title.endswith(closing):
            return title[1:-1].strip()
    return title


def innermost(title: str) -> str:
    """Return a title without any outer quotes: what tells two titles apart in an answer."""
    return [title, *_peeled(title)][-1]


def _peeled(title: str) -> Iterator[str]:
    """Yield a title without its outer quotes, one pair less each time."""
    while (inner := unquoted(title)) != title:
        title = inner
        yield title


def cut_titles(tokenizer: Any, titles: Sequence[str], limit: int) -> list[str]:
    """Cut titles to at most ``limit`` tokens, where the token after the last begins, but never to nothing.

    A token of a byte-level tokenizer may hold parts of two characters. They go together, and what is left may again be
    too long.
    """
    cut = list(titles)
    long = list(range(len(cut)))
    while long:
        offsets = tokenizer(
            [cut[index] for index in long],
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
            truncation=True,
            max_length=limit + 1,
        )["offset_mapping"]
        shorter = {
            index: cut[index][: spans[limit][0]].rstrip() or cut[index][:1]
            for index, spans in zip(long, offsets, strict=True)
            if len(spans) > limit
        }
        long = [index for index, title in shorter.items() if title != cut[index]]
        for index in long:
            cut[index] = shorter[index]
    return cut
