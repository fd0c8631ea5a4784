"""Wishes in the words of people: read, checked against the catalogue, and said again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz, process, utils

from ctrlrec.config.choices import nearest
from ctrlrec.controls.base import Control
from ctrlrec.controls.blends import MOST
from ctrlrec.controls.cells import best_list
from ctrlrec.controls.instruction import Condition
from ctrlrec.controls.registry import CONTROLS, kind_of
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError

# Words for a kind of control; every other kind has its own name, such as "at least".
_WORDS = {"positive": "more", "negative": "none"}
_SHARE = re.compile(r"(?P<category>.*\S)\s+(?P<percent>\d{1,3})\s*%")
_SUGGESTED = 3  # near misses that an error names
_ALIKE, _BEHIND = 60, 10  # of 100: from which on a title is a near miss, and how far behind the best it may be


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing that a list has to be.

    Attributes:
        kind: of the control: ``positive`` (all of a category), ``negative`` (none of it), ``at_most``, ``at_least`` or
            ``about`` (a share of the list), or that of a plug-in.
        category: what it is about, in the catalogue's words.
        percent: the share, 0 to 100; None for a kind without one.
    """

    kind: str
    category: str
    percent: int | None = None

    def __str__(self) -> str:
        return f"{word_of(self.kind)} {'of' if self.percent is None else f'{self.percent}%'} {self.category}"


def word_of(kind: str) -> str:
    """Return what people call a kind of control, such as "more" or "at most"."""
    return _WORDS.get(kind, kind.replace("_", " "))


def option_of(kind: str) -> str:
    """Return the command-line option of a kind of control, such as ``--at-most``."""
    return "--" + word_of(kind).replace(" ", "-")


def read_wish(kind: str, text: str) -> Wish:
    """Return the wish that follows an option of the command line.

    Args:
        kind: of the control.
        text: a category, followed by a percentage for a control that takes one: "Drama 30%".

    Raises:
        CtrlRecError: for a control that takes a percentage and has none.
    """
    if not CONTROLS[kind].takes_percent:
        return Wish(kind, text.strip())
    found = _SHARE.fullmatch(text.strip())
    if found is None:
        raise CtrlRecError(
            f"{option_of(kind)} '{text}': expected a category and a percentage, such as {option_of(kind)} 'Drama 30%'"
        )
    return Wish(kind, found["category"], int(found["percent"]))


def condition_of(wish: Wish, catalogue: Catalogue) -> Condition:
    """Return a wish as the condition of an instruction; capital letters in the category do not matter.

    Raises:
        CtrlRecError: for an unknown kind or category, with the nearest ones, or a percentage out of place.
    """
    if wish.kind not in CONTROLS:
        raise CtrlRecError(f"no control '{wish.kind}'; {nearest(wish.kind, CONTROLS)}")
    control: Control = CONTROLS[wish.kind]
    if control.takes_percent and not (isinstance(wish.percent, int) and 0 <= wish.percent <= 100):
        raise CtrlRecError(f"{word_of(wish.kind)} {wish.category}: expected a percentage from 0 to 100")
    if not control.takes_percent and wish.percent is not None:
        raise CtrlRecError(f"{wish}: '{word_of(wish.kind)}' takes no percentage; leave it out")
    names = {name.casefold(): name for name in catalogue.category_names}
    category = wish.category if wish.category in catalogue.category_index else names.get(wish.category.casefold())
    if category is None:
        raise CtrlRecError(f"{wish}: no such category; {_near(wish.category, catalogue.category_names)}")
    return Condition(control, category, wish.percent)


def check_possible(
    conditions: Sequence[Condition], item_count: int, scores: np.ndarray, history: Sequence[int], catalogue: Catalogue
) -> None:
    """Refuse a demand that no list can meet.

    Args:
        conditions: what a list has to meet.
        item_count: k.
        scores: (n_items,) the teacher's.
        history: items that may not be listed.
        catalogue: membership.

    Raises:
        CtrlRecError: naming what cannot be met, and how many items there are.
    """
    if len(conditions) > MOST:
        raise CtrlRecError(f"{len(conditions)} wishes in one question: a model reads at most {MOST}; leave some out")
    left = len(catalogue) - len(history)
    if not 1 <= item_count <= left:
        raise CtrlRecError(f"{item_count} items: expected a number from 1 to {left}, the items outside the history")
    order = np.argsort(-scores, kind="stable")
    order = order[~np.isin(order, history)]

    def possible(wanted: Sequence[Condition]) -> bool:
        return best_list(wanted, item_count, scores, order, catalogue) is not None

    if not conditions or possible(conditions):
        return
    for condition in conditions:
        if not possible([condition]):
            inside = int(catalogue.membership[catalogue.category_index[condition.category]][order].sum())
            raise CtrlRecError(
                f"no list of {item_count} items meets '{wish_of(condition)}': outside the history there are {inside} "
                f"items in {condition.category} and {left - inside} others; ask for fewer items or for another share"
            )
    wishes = "; ".join(str(wish_of(condition)) for condition in conditions)
    raise CtrlRecError(f"no list of {item_count} items meets all of: {wishes}; leave a wish out or ask for fewer items")


def wish_of(condition: Condition) -> Wish:
    """Return the wish that a condition stands for."""
    return Wish(kind_of(condition.control), condition.category, condition.proportion)


def unknown_title(title: str, catalogue: Catalogue) -> CtrlRecError:
    """Return the error for a title that is in no catalogue, with near misses."""
    return CtrlRecError(f"no item '{title}' in the catalogue; {_near(title, catalogue.titles)}")


def _near(text: str, names: Sequence[str]) -> str:
    """Return a sentence part that suggests the names most like a text."""
    found = process.extract(
        text, names, scorer=fuzz.WRatio, processor=utils.default_process, limit=_SUGGESTED, score_cutoff=_ALIKE
    )
    near = [name for name, alike, _ in found if alike >= found[0][1] - _BEHIND]
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    shown = ", ".join(names[:12])
    return f"there are: {shown}" if len(names) <= 12 else f"nothing is like it; there are {shown}, ..."
