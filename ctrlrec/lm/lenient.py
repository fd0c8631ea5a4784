r"""Titles in answers of models that were never taught how to write a list: a server's, or an untrained backbone's.

Read are, in this order:

- a JSON list of texts, or of objects with a "title", "name" or "item", alone or among remarks;
- numbered lines: "1.", "1)", "(1)", "[1]", "#1.", "1\.", "**1.**" and full-width points; all other lines are remarks;
- lines with a weaker mark: "1:", "1 -", "-", "*" or a bullet; all other lines are remarks;
- one line of titles between commas, with or without quotes;
- lines without any mark, except for a first one that ends with a colon.

What stands before ``</think>`` is not part of the answer. Fences, emphasis, links and quotes around a title are taken
off, and so is a reason after a dash. If a comma or a dash may be part of a title, the longest known title is taken.
"""

import itertools
import json
import re
from collections.abc import Callable

from ctrlrec.data.titles import unquoted
from ctrlrec.lm.parsing import answer_begin

Known = Callable[[str], bool]

_NUMBER = re.compile(r"(?:\*\*|__)?[(\[#]? ?\d{1,4} ?\\?[.)\]\uff0e\u3001](?:\*\*|__)?\s*")
_ALL_BOLD = re.compile(r"(\*\*|__)((?:(?!\1).)+)\1")
_WEAKER = re.compile(r"(?:[-*+\u2022\u2023\u25aa\u25cf]\s|\d{1,3} ?[:\uff1a]\s|\d{1,3} [-\u2013\u2014]\s)\s*")
_EMPHASIS = re.compile(r"(\*\*\*|\*\*|__|\*|_|`)(?=\S)(.+?)(?<=\S)\1(?!\w)")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")
_REASON = re.compile(r"(?<=\S)\s[-\u2013\u2014]\s")
_QUOTED = re.compile(r"""'(?:[^']|'(?=\w))+'|"[^"]+"|\u2018[^\u2018]+\u2019|\u201c[^\u201d]+\u201d""")
_NAMES = ("title", "name", "item")
_BRACKETS, _PARTS = 20, 6  # opening brackets tried as JSON; parts between commas that one title may have


def lenient_titles(text: str, known: Known) -> list[str]:
    """Return the titles of an answer, as they were written.

    Args:
        text: the answer as it came.
        known: whether a title is one of the catalogue.
    """
    text = text[answer_begin(text) :]
    listed = _json_titles(text)
    if listed is not None:
        return [_title(title, known) for title in listed]
    lines = [line for raw in text.split("\n") if (line := raw.strip()) and not line.startswith("```")]
    lines = [whole[2] if (whole := _ALL_BOLD.fullmatch(line)) else line for line in lines]
    for mark in (_NUMBER, _WEAKER):
        behind = [line[found.end() :] for line in lines if (found := mark.match(line))]
        if behind:
            return [_title(line, known) for line in behind]
    if len(lines) == 1 and "," in lines[0]:
        return _between_commas(lines[0], known)
    if len(lines) > 1 and lines[0].endswith(":"):
        del lines[0]
    return [_title(line, known) for line in lines]


def _json_titles(text: str) -> list[str] | None:
    """Return the titles of the first JSON list that holds nothing else; None without one."""
    for place in itertools.islice((index for index, sign in enumerate(text) if sign == "["), _BRACKETS):
        try:
            values, _ = json.JSONDecoder().raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
        named = [
            next((value[name] for name in _NAMES if name in value), None) if isinstance(value, dict) else value
            for value in values
        ]
        titles = [title for title in named if isinstance(title, str)]
        if titles and len(titles) == len(values):
            return titles
    return None


def _title(written: str, known: Known) -> str:
    """Return a title without what surrounds it and without a reason after it."""
    title = written.strip()
    for pattern, group in ((_EMPHASIS, 2), (_LINK, 1), (_EMPHASIS, 2)):
        if (found := pattern.match(title)) and not known(title):
            title = found[group].strip()
    title = unquoted(title)
    if known(title):
        return title
    cuts = [cut.start() for cut in _REASON.finditer(title)][-_PARTS:]
    shorter = (unquoted(title[:cut].strip()) for cut in reversed(cuts))
    return next((part for part in shorter if known(part)), title)


def _between_commas(line: str, known: Known) -> list[str]:
    """Return the titles of one line: those in quotes, or the parts between commas, joined if they are known so."""
    quoted = _QUOTED.findall(line)
    if len(quoted) > 1:
        return [unquoted(title) for title in quoted]
    parts = re.split(r",\s", line.rstrip("."))
    titles, place = [], 0
    while place < len(parts):
        counts = range(min(len(parts) - place, _PARTS), 0, -1)
        count = next((count for count in counts if known(", ".join(parts[place : place + count]))), 1)
        titles.append(_title(", ".join(parts[place : place + count]), known))
        place += count
    return titles
