"""How a tokenizer writes a list of titles, part by part.

An answer is the text "1. Title", a line break, "2. Title", and so on. A tokenizer may merge numbers, line breaks and
titles, so that an item's tokens are not those of its title alone. :func:`spell_lists` finds parts that make up exactly
the tokens that :class:`ChatFormat` gives for the text of any such list, which are those that SL teaches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ctrlrec.data.titles import AnswerIndex
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.parsing import written_items

Tokens = tuple[int, ...]

# Texts that begin and end in many ways: what they have in common belongs to the number and not to a title.
_PROBES = ("A", "the x", "7", "(b)", "é", "日", "'q'", "x!", "Who?", "🎬", '"s"', "3. z", "%", "50%", "Q.")
_IN_A_ROW = 12  # titles of a list that is checked as a whole: it has numbers of one and of two digits


@dataclass(frozen=True)
class Spelling:
    """The parts of lists: head, item, separator, item, ..., separator, last item, end.

    Attributes:
        head: tokens before the first item.
        separators: tokens before item n at place n; empty before the first.
        inner: tokens of each item if another one follows; with most tokenizers the same object as ``last``.
        last: tokens of each item if the list ends with it.
        end: the token that ends an answer.
    """

    head: Tokens
    separators: tuple[Tokens, ...]
    inner: list[Tokens] = field(repr=False)
    last: list[Tokens] = field(repr=False)
    end: int

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens that each title takes at most, (items,)."""
        return np.maximum(*(np.fromiter(map(len, rows), np.int64, len(rows)) for rows in (self.inner, self.last)))

    def around(self, count: int) -> int:
        """Return the tokens of an answer of ``count`` items that are of no title."""
        return len(self.head) + sum(map(len, self.separators[: count + 1])) + 1

    def list(self, items: Sequence[int]) -> Tokens:
        """Return the tokens of a whole answer that lists the given items."""
        tokens = [*self.head]
        for place, item in enumerate(items, start=1):
            tokens += self.separators[place] if place > 1 else ()
            tokens += self.inner[item] if place < len(items) else self.last[item]
        return (*tokens, self.end)


def spell_lists(chat_format: ChatFormat, titles: Sequence[str], longest: int) -> Spelling:
    """Return the parts of numbered lists of titles.

    Args:
        chat_format: of the model.
        titles: of the catalogue; each is one item.
        longest: items of the longest list.

    Raises:
        CtrlRecError: if the tokenizer merges titles with what stands around them in a way that depends on both, or
            gives two titles the same tokens, or cannot write a title.
    """
    speller = _Speller(chat_format, longest)
    spelling = speller.spell([*_PROBES, *titles])
    first = len(_PROBES)
    inner, last = spelling.inner[first:], spelling.last[first:]
    inner = last if inner == last else inner
    spelling = Spelling(spelling.head, spelling.separators, inner, last, chat_format.end)
    texts = ["1. " + title for title in titles]
    _check(chat_format, titles, [spelling.head + row for row in spelling.last], texts)
    return spelling


def spell_titles(chat_format: ChatFormat, titles: Sequence[str]) -> Spelling:
    """Return the parts of answers that are one title without a number, as beams write them.

    Raises:
        CtrlRecError: if two titles have the same tokens, or a title cannot be written.
    """
    rows = [tuple(row) for row in chat_format.contents(titles)]
    _check(chat_format, titles, rows, titles)
    return Spelling((), ((), ()), rows, rows, chat_format.end)


class _Speller:
    """Finds the parts by comparing lists of one and of two items.

    Args:
        chat_format: of the model.
        longest: items of the longest list.
    """

    def __init__(self, chat_format: ChatFormat, longest: int):
        self.chat_format, self.longest = chat_format, longest

    def spell(self, titles: Sequence[str]) -> Spelling:
        """Return the parts of lists of titles, the probes in front."""
        alone = self._encode(f"1. {title}" for title in titles)
        head = _common_prefix(alone)
        last = [row[len(head) :] for row in alone]
        pairs = self._encode(f"1. {title}\n2. {title}" for title in titles)
        for title, row, end in zip(titles, pairs, last, strict=True):
            if not end or row[: len(head)] != head or row[-len(end) :] != end:
                self._refuse(title)
        # What is left of each pair is the item and the number after it.
        middles = [row[len(head) : len(row) - len(end)] for row, end in zip(pairs, last, strict=True)]
        second = _common_prefix([row[::-1] for row in middles])[::-1]
        inner = [row[: len(row) - len(second)] for row in middles]
        separators: list[Tokens] = [(), (), second]
        for number in range(3, self.longest + 1):
            separators.append(self._separator(number, inner[: len(_PROBES)], last[: len(_PROBES)]))
        spelling = Spelling(head, tuple(separators), inner, last, self.chat_format.end)
        self._verify(spelling, titles)
        return spelling

    def _separator(self, number: int, inner: Sequence[Tokens], last: Sequence[Tokens]) -> Tokens:
        """Return the tokens between two items of which the second has the number."""
        alone = self._encode(f"{number - 1}. {probe}" for probe in _PROBES)
        pairs = self._encode(f"{number - 1}. {probe}\n{number}. {probe}" for probe in _PROBES)
        found = set()
        for one, pair, item, end in zip(alone, pairs, inner, last, strict=True):
            before = len(one) - len(end)  # the tokens of the number
            found.add(pair[before + len(item) : len(pair) - len(end)])
        if len(found) > 1 or found == {()}:
            self._refuse(f"{number}. {_PROBES[0]}")
        return found.pop()

    def _verify(self, spelling: Spelling, titles: Sequence[str]) -> None:
        """Compare whole lists, in which every title stands once, with what the tokenizer gives."""
        count = min(_IN_A_ROW, self.longest)
        groups = [range(begin, min(begin + count, len(titles))) for begin in range(0, len(titles), count)]
        texts = ["\n".join(f"{place}. {titles[item]}" for place, item in enumerate(group, 1)) for group in groups]
        for group, row in zip(groups, self._encode(texts), strict=True):
            if spelling.list(group)[:-1] != row:
                self._refuse(titles[group[0]])

    def _encode(self, texts: Iterable[str]) -> list[Tokens]:
        return [tuple(row) for row in self.chat_format.contents(list(texts))]

    def _refuse(self, title: str) -> None:
        raise CtrlRecError(
            f"model {self.chat_format.config.path or self.chat_format.config.name}: its tokenizer writes {title!r} in "
            "a list otherwise than alone, and merges it with the number or the line break beside it; lists cannot be "
            "constrained with it: set constraint.name=none, or use another backbone"
        )


def _check(chat_format: ChatFormat, titles: Sequence[str], rows: Sequence[Tokens], texts: Sequence[str]) -> None:
    """Refuse titles that share their tokens, hold the end of an answer, or do not come back from their tokens.

    Args:
        chat_format: of the model.
        titles: of the catalogue.
        rows: tokens of an answer that holds each title alone.
        texts: of these answers.

    Raises:
        CtrlRecError: naming the titles.
    """
    name = f"model {chat_format.config.path or chat_format.config.name}"
    advice = "set constraint.name=none, or give the items other titles"
    first: dict[Tokens, int] = {}
    for item, row in enumerate(rows):
        if first.setdefault(row, item) != item:
            raise CtrlRecError(
                f"{name}: the titles {titles[first[row]]!r} and {titles[item]!r} have the same tokens, so that a "
                f"constrained answer could not tell them apart; {advice}"
            )
        if not chat_format.ends.isdisjoint(row):
            raise CtrlRecError(f"{name}: the tokens of the title {titles[item]!r} hold an end of answers; {advice}")
    index = AnswerIndex(titles)
    for item, (text, row) in enumerate(zip(texts, rows, strict=True)):
        back = chat_format.decode(list(row))
        if back == text:
            continue
        found = [index.get(written.title) for written in written_items(back)]
        if found != [item]:
            raise CtrlRecError(f"{name}: it cannot write the title {titles[item]!r}, which becomes {back!r}; {advice}")


def _common_prefix(rows: Sequence[Tokens]) -> Tokens:
    """Return the tokens with which all rows begin."""
    least, largest = min(rows), max(rows)
    count = next((place for place, token in enumerate(least) if largest[place : place + 1] != (token,)), len(least))
    return least[:count]
