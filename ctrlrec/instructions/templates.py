"""Wording: the prompts of Listings 1-6 and the form of an answer."""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import yaml

from ctrlrec.controls.instruction import Condition
from ctrlrec.controls.registry import CHAT, CONTROLS, PAPER_FAMILIES, SEARCH, control_of, families, stream_number

INTENTIONS = 6  # phrasings in each of Listings 5 and 6
_SPECIMEN_ITEMS = 10


@cache
def _listings() -> dict[str, Any]:
    text = resources.files("ctrlrec.instructions").joinpath("templates.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def quoted(titles: Sequence[str]) -> str:
    """Return titles in single quotes, joined with ", " as in the paper's case study (Table 6)."""
    return ", ".join(f"'{title}'" for title in titles)


def has_selection_form(task: str) -> bool:
    """Return whether the listings give a form that selects from candidates (I2 has none)."""
    return "select" in _listings()[_section(task)]


def prompt(
    task: str,
    item_count: int,
    history: Sequence[str] = (),
    category: str | None = None,
    proportion: int | None = None,
    negative: bool = False,
    phrasing: int = 0,
    candidates: Sequence[str] | None = None,
    blend: Sequence[tuple[Condition, int]] = (),
) -> str:
    """Return the instruction text of Listings 1-4.

    A blend says one sentence for each condition, in the listing of the condition whose control comes first in the
    tables: Listing 2 if a category is wanted or unwanted, else Listing 3.

    Args:
        task: any but chat.
        item_count: k.
        history: titles, oldest first.
        category: what the intention or the proportion is about.
        proportion: percent, for the proportion tasks.
        negative: for search, whether the intention is a negative one; implied by the category tasks.
        phrasing: which of the six intentions, 0..5.
        candidates: titles to select from; None for the free form.
        blend: the conditions of a blend, each with the number of its phrasing; empty for every other task.
    """
    values = {"history": quoted(history), "item_count": str(item_count)}
    if candidates is not None:
        values["candidate_titles"] = quoted(candidates)
    control = CONTROLS["negative" if negative else "positive"] if task == SEARCH else control_of(task)
    if blend:
        values["synthetic_intention"] = ". ".join(
            condition.control.sentence(condition.category, condition.proportion, number) for condition, number in blend
        )
        listing = min((condition.control for condition, _ in blend), key=lambda control: control.order).listing
        return _fill(_listings()[listing]["free"], **values)
    if control is not None:
        assert category is not None
        values["synthetic_intention"] = control.sentence(category, proportion, phrasing)
    return _fill(_listings()[_section(task)]["free" if candidates is None else "select"], **values)


def answer(titles: Sequence[str]) -> str:
    """Return the response text: one item per line, "1. Title", newline between."""
    return "\n".join(f"{index}. {title}" for index, title in enumerate(titles, start=1))


def specimens(titles: Sequence[str], categories: Sequence[str]) -> list[str]:
    """Return prompts and answers that hold every title and every category, for training a tokenizer."""
    asked = (task for family, turns in families().items() if family in PAPER_FAMILIES for task in turns)
    tasks = sorted((task for task in asked if task != CHAT), key=stream_number)
    texts: list[str] = []
    for number in range(max(-(-len(titles) // _SPECIMEN_ITEMS), len(tasks) * len(categories))):
        task, round_, begin = tasks[number % len(tasks)], number // len(tasks), number * _SPECIMEN_ITEMS
        if round_ % 2 and task == CONTROLS["positive"].task:
            task = CONTROLS["negative"].task
        shown = [titles[index % len(titles)] for index in range(begin, begin + _SPECIMEN_ITEMS)]
        category = categories[round_ % len(categories)]
        texts.append(
            prompt(
                task,
                1 + number % 10,
                shown,
                category,
                10 * (round_ % 10) if takes_percent(task) else None,
                negative=bool(round_ % 2),
                phrasing=round_ % INTENTIONS,
                candidates=shown if has_selection_form(task) and round_ % 4 == 3 else None,
            )
        )
        texts.append(answer(shown))
    return texts


def takes_percent(task: str) -> bool:
    """Return whether a task asks for a proportion."""
    control = control_of(task)
    return control is not None and control.takes_percent


def _section(task: str) -> str:
    control = control_of(task)
    return task if control is None else control.listing


def _fill(template: str, **values: str) -> str:
    return template.format_map(values)  # one pass: braces inside a title stay as they are
