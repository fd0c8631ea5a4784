"""Answers to titles: what a model wrote, line by line, and which generated token ends each line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctrlrec.data.titles import unquoted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_INDEX = re.compile(r"^\s*\d{1,4}\s*[.)]\s*")


@dataclass(frozen=True, slots=True)
class WrittenItem:
    """One item of an answer.

    Attributes:
        title: as written, without its index, outer quotes and surrounding white space.
        end: position in the answer's text just behind the item's last character.
    """

    title: str
    end: int


def written_items(text: str) -> list[WrittenItem]:
    """The items of an answer, whatever a model writes.

    Every line that is not empty is an item. Only where the answer holds a numbered list do lines before its first and
    after its last numbered line count as remarks and not as items.
    """
    lines, position = [], 0
    for line in text.split("\n"):
        if line.strip():
            lines.append((line, position + len(line.rstrip())))
        position += len(line) + 1
    numbered = [row for row, (line, _) in enumerate(lines) if _INDEX.match(line)]
    if numbered:
        lines = lines[numbered[0] : numbered[-1] + 1]
    return [WrittenItem(bare_title(line), end) for line, end in lines]


def bare_title(line: str) -> str:
    """A line without one leading "n. ", one pair of outer quotes and surrounding white space (spec section 5)."""
    return unquoted(_INDEX.sub("", line, count=1).strip())


def last_tokens(tokenizer: "PreTrainedTokenizerBase", tokens: list[int], text: str, ends: Sequence[int]) -> list[int]:
    """The index of the generated token that completes each of several growing prefixes of the answer.

    Offsets come from decoding ever longer prefixes of the very tokens that were sampled: encoding the text again could
    split it at other places.

    Args:
        tokenizer: of the model that sampled.
        tokens: generated ids.
        text: their decoding without special tokens.
        ends: increasing positions in ``text``, each just behind an item's last character.

    Returns:
        For each end the 0-based index of the first token with which the decoded prefix covers ``text[:end]``.
    """
    found: list[int] = []
    for index in range(len(tokens)):
        if len(found) == len(ends):
            break
        prefix = str(tokenizer.decode(tokens[: index + 1], skip_special_tokens=True))
        while (
            len(found) < len(ends) and len(prefix) >= ends[len(found)] and prefix.startswith(text[: ends[len(found)]])
        ):
            found.append(index)
    # A tokenizer that tidies up white space may never reproduce a prefix: its last token then completes it.
    return found + [len(tokens) - 1] * (len(ends) - len(found))
