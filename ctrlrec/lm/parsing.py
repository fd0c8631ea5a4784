"""Answers to titles: what a model wrote, line by line, and which generated token ends each line.

Rows that were trained are read by :func:`written_items`: they write as they were taught. Other rows are read by
:mod:`ctrlrec.lm.lenient`; ``variant.lenient_answers`` decides.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ctrlrec.data.titles import unquoted

_INDEX = re.compile(r"^\s*\d{1,4}\s*[.)]\s*")
# The end of a model's thinking, alone on its line or at one end of it, as no title has it.
_THOUGHT = re.compile(r"^[ \t]*</think>|</think>[ \t]*$", re.MULTILINE)
_THINKING = "<think>"
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"  # what is decoded of the first bytes of a character


@dataclass(frozen=True, slots=True)
class WrittenItem:
    """One item of an answer.

    Attributes:
        title: as written, without its index, outer quotes and surrounding white space.
        end: position in the answer's text just after the item's last character.
    """

    title: str
    end: int


def written_items(text: str) -> list[WrittenItem]:
    """Parse the items of an answer, whatever a model writes.

    What stands before the end of a model's thinking is not part of the answer. Every line that is not empty is an item.
    If the answer holds a numbered list, lines before its first and after its last numbered line are remarks and no
    items.
    """
    position = answer_begin(text)
    lines = []
    for line in text[position:].split("\n"):
        if line.strip():
            lines.append((line, position + len(line.rstrip())))
        position += len(line) + 1
    numbered = [row for row, (line, _) in enumerate(lines) if _INDEX.match(line)]
    if numbered:
        lines = lines[numbered[0] : numbered[-1] + 1]
    return [WrittenItem(bare_title(line), end) for line, end in lines]


def answer_begin(text: str) -> int:
    """Return where the answer begins: after the model's thinking; at the end if that never ends."""
    thoughts = [thought.end() for thought in _THOUGHT.finditer(text)]
    if thoughts:
        return thoughts[-1]
    return len(text) if text.lstrip().startswith(_THINKING) else 0


def bare_title(line: str) -> str:
    """Strip one leading "n. ", one pair of outer quotes and surrounding white space (spec section 5)."""
    return unquoted(_INDEX.sub("", line, count=1).strip())


def last_tokens(written: Callable[[list[int]], str], tokens: list[int], text: str, ends: Sequence[int]) -> list[int]:
    """Return the index of the generated token that completes each of several growing prefixes of the answer.

    Offsets come from decoding ever longer prefixes of the very tokens that were sampled: encoding the text again could
    split it at other places.

    Args:
        written: decodes tokens without special ones, such as :meth:`ctrlrec.lm.chat_format.ChatFormat.written`.
        tokens: generated ids.
        text: their decoding without special tokens.
        ends: increasing positions in ``text``, each just after an item's last character.

    Returns:
        For each end the 0-based index of the first token with which the decoded prefix covers ``text[:end]``.
    """
    found = _covering(_prefixes(written, tokens), text, ends)
    if len(found) < len(ends):  # the tokenizer's text is not a sum of pieces
        found = _covering((written(tokens[: index + 1]) for index in range(len(tokens))), text, ends)
    # A tokenizer that tidies up white space may never reproduce a prefix: its last token then completes it.
    return found + [len(tokens) - 1] * (len(ends) - len(found))


def _covering(prefixes: Iterable[str], text: str, ends: Sequence[int]) -> list[int]:
    """Return the index of the first of growing texts that begins with ``text[:end]``, for each end that has one."""
    found: list[int] = []
    for index, prefix in enumerate(prefixes):
        while (
            len(found) < len(ends) and len(prefix) >= ends[len(found)] and prefix.startswith(text[: ends[len(found)]])
        ):
            found.append(index)
        if len(found) == len(ends):
            break
    return found


def _prefixes(written: Callable[[list[int]], str], tokens: list[int]) -> Iterator[str]:
    """Yield the text of the first token, of the first two, and so on.

    Decoding each from its first token would take quadratic time. What is decoded starts at the last places where a
    character was complete, ``begin`` and ``known``: with a piece in front, as white space at the start of a text is
    dropped by some tokenizers.
    """
    begin = known = 0
    settled = piece = ""
    for count in range(1, len(tokens) + 1):
        prefix = settled + written(tokens[begin:count])[len(piece) :]
        if len(prefix) > len(settled) and not prefix.endswith(_INCOMPLETE):
            begin, known, settled = known, count, prefix
            piece = written(tokens[begin:known])
        yield prefix
