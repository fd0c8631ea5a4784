"""The last lines of a run: one user's answers in words, the folder of the report, and what to try next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.runtime.escaping import inert
from ctrlrec.runtime.files import read_jsonl

_ASKED = {
    "sequential": "asked for nothing in particular",
    "category_positive": "asked for more {category}",
    "category_negative": "asked for no {category}",
}
_SHOWN = 3  # items of the history


def three_answers(predictions: Path, catalogue: Catalogue) -> list[str]:
    """Return one user's answers without control, with more of a category and with none of one, as lines of text.

    It is the first user who was asked all three, however good the answers are. A star marks the items of the category.

    Args:
        predictions: ``predictions.jsonl`` of a row.
        catalogue: its categories.

    Returns:
        The lines; none if nobody was asked all three.
    """
    users: dict[str, dict[str, Any]] = {}
    for row in read_jsonl(predictions):
        if row["setting"] in _ASKED:
            users.setdefault(row["user"], {})[row["setting"]] = row
    chosen = next((rows for rows in users.values() if len(rows) == len(_ASKED)), None)
    if chosen is None:
        return []
    history = chosen["sequential"]["history"]
    lines = [f"A user who last saw {inert('; '.join(history[-_SHOWN:]))}"]
    for setting, words in _ASKED.items():
        row = chosen[setting]
        asked = words.format(category=row["category"])
        lines.append(f"  {asked}: {inert('; '.join(_items(row, catalogue)))}")
    return lines


def closing(row: str, predictions: Path, catalogue: Catalogue, report: Path, following: str | None) -> str:
    """Return the last words of a run.

    Args:
        row: name of the row whose answers are shown.
        predictions: of :func:`three_answers`.
        catalogue: likewise.
        report: folder of the tables.
        following: command to try next; None for none.
    """
    answers = three_answers(predictions, catalogue)
    if answers:
        answers = [f"{row}, in words (* in the category):", *answers]
    ends = [f"report: {report}", *([f"next:   {following}"] if following else [])]
    return "\n".join([*answers, *ends])


def _items(row: Mapping[str, Any], catalogue: Catalogue) -> list[str]:
    index = catalogue.title_index
    names = []
    for title, item in zip(row["titles"], row["items"], strict=True):
        inside = item is not None and row["category"] in catalogue.categories[index[item]]
        names.append(f"{title}{' *' if inside else ''}")
    return names
