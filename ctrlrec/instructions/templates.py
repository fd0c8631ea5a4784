"""Wording: the prompts of Listings 1-6 and the form of an answer."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

from ctrlrec.controls.instruction import PROPORTION_TASKS, Task

INTENTIONS = 6  # phrasings in each of Listings 5 and 6
_SPECIMEN_ITEMS = 10


@cache
def _listings() -> dict[str, Any]:
    text = resources.files("ctrlrec.instructions").joinpath("templates.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def quoted(titles: Sequence[str]) -> str:
    """Titles in single quotes, joined with ", " as in the paper's case study (Table 6)."""
    return ", ".join(f"'{title}'" for title in titles)


def intention(category: str, negative: bool, phrasing: int) -> str:
    """A positive (Listing 5) or negative (Listing 6) intention; ``phrasing`` is 0..5."""
    listing = _listings()["negative" if negative else "positive"]
    return _fill(listing[phrasing], target_category=category)


def has_selection_form(task: Task) -> bool:
    """Whether the listings give a form that selects from candidates (I2 has none)."""
    return "select" in _listings()[_section(task)]


def prompt(
    task: Task,
    item_count: int,
    history: Sequence[str] = (),
    category: str | None = None,
    proportion: int | None = None,
    negative: bool = False,
    phrasing: int = 0,
    candidates: Sequence[str] | None = None,
) -> str:
    """The instruction text of Listings 1-4.

    Args:
        task: any but chat.
        item_count: k.
        history: titles, oldest first.
        category: what the intention or the proportion is about.
        proportion: percent, for the proportion tasks.
        negative: for search, whether the intention is a negative one; implied by the category tasks.
        phrasing: which of the six intentions, 0..5.
        candidates: titles to select from; None for the free form.
    """
    values = {"history": quoted(history), "item_count": str(item_count)}
    if candidates is not None:
        values["candidate_titles"] = quoted(candidates)
    if task in (Task.CATEGORY_POSITIVE, Task.CATEGORY_NEGATIVE, Task.SEARCH):
        assert category is not None
        values["synthetic_intention"] = intention(category, negative or task == Task.CATEGORY_NEGATIVE, phrasing)
    if proportion is not None:
        assert category is not None
        values |= {"target_category": category, "category_proportion": f"{proportion}%"}
    return _fill(_listings()[_section(task)]["free" if candidates is None else "select"], **values)


def answer(titles: Sequence[str]) -> str:
    """The response text: one item per line, "1. Title", newline between."""
    return "\n".join(f"{index}. {title}" for index, title in enumerate(titles, start=1))


def specimens(titles: Sequence[str], categories: Sequence[str]) -> list[str]:
    """Prompts and answers that hold every title and every category, for training a tokenizer."""
    tasks = [task for task in Task if task != Task.CHAT]
    texts: list[str] = []
    for number in range(max(-(-len(titles) // _SPECIMEN_ITEMS), len(tasks) * len(categories))):
        task, round_, begin = tasks[number % len(tasks)], number // len(tasks), number * _SPECIMEN_ITEMS
        shown = [titles[index % len(titles)] for index in range(begin, begin + _SPECIMEN_ITEMS)]
        category = categories[round_ % len(categories)]
        texts.append(
            prompt(
                task,
                1 + number % 10,
                shown,
                category,
                10 * (round_ % 10) if task in PROPORTION_TASKS else None,
                negative=bool(round_ % 2),
                phrasing=round_ % INTENTIONS,
                candidates=shown if has_selection_form(task) and round_ % 4 == 3 else None,
            )
        )
        texts.append(answer(shown))
    return texts


def _section(task: Task) -> str:
    return "category" if task in (Task.CATEGORY_POSITIVE, Task.CATEGORY_NEGATIVE) else task.value


def _fill(template: str, **values: str) -> str:
    return template.format_map(values)  # one pass: braces inside a title stay as they are
