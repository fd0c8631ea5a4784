"""Titles as they are written, cut and looked up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


_QUOTES = (("'", "'"), ('"', '"'), ("\u2018", "\u2019"), ("\u201c", "\u201d"))


def answer_index(titles: Sequence[str]) -> dict[str, int]:
    """Position of each of different titles, by itself and as an answer gives it back: without outer quotes."""
    whole = {title: position for position, title in enumerate(titles)}
    return {unquoted(title): position for title, position in whole.items()} | whole


def unquoted(title: str) -> str:
    """Return a title without one pair of outer quotes and the white space inside them."""
    for opening, closing in _QUOTES:
        if len(title) >= 2 and title.startswith(opening) and title.endswith(closing):
            return title[1:-1].strip()
    return title


def cut_titles(tokenizer: Any, titles: Sequence[str], limit: int) -> list[str]:
    """Titles of at most ``limit`` tokens: cut where the token behind the last begins, but never to nothing.

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
