"""Answers whose titles are letters: a..l are comedies, m..z are not; a, b and c are films of the nineties too."""

from typing import Any

from hypothesis import strategies as st

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.metrics import Answer
from ctrlrec.evaluation.scoring import answer_metrics
from ctrlrec.evaluation.settings import SETTINGS

LETTERS = "abcdefghijklmnopqrstuvwxyz"
CATALOGUE = Catalogue(
    items=tuple(LETTERS),
    titles=tuple(LETTERS),
    categories=tuple(
        (*(["Comedy"] if letter < "m" else ["Drama"]), *(["Nineties"] if letter < "d" else [])) for letter in LETTERS
    ),
    target_categories=tuple("Comedy" if letter < "m" else "Drama" for letter in LETTERS),
    interactions=(0,) * 26,
)
INSIDE = frozenset("abcdefghijkl")
SINGLE = tuple(name for name, setting in SETTINGS.items() if not setting.conditions)


def record(
    setting: str = "sequential",
    written: str = "",
    *,
    user: str = "u",
    target: str = "a",
    count: int = 10,
    history: tuple[str, ...] = ("y", "z"),
    **changes: Any,
) -> dict[str, Any]:
    """Return an answer; a character that is not a lower-case letter is a title that does not exist."""
    return {
        "setting": setting,
        "user": user,
        "history": list(history),
        "target": target,
        "item_count": count,
        "category": None if setting in ("sequential", "formatting") else "Comedy",
        "proportion": {"at_most_20": 20, "about_30": 30, "at_least_30": 30}.get(setting),
        "prompt": "",
        "response": "",
        "titles": list(written),
        "items": [title if title in LETTERS else None for title in written],
        "teacher_rank": [None] * len(written),
    } | changes


def of(row: dict[str, Any], free: dict[str, Any] | None = None) -> dict[str, float]:
    """Return every metric of an answer."""
    return answer_metrics(Answer(row, row["titles"], row["items"], INSIDE, CATALOGUE), free)


ANSWERS = st.builds(
    lambda setting, written, user, target, count: record(setting, written, user=user, target=target, count=count),
    st.sampled_from(SINGLE),
    st.text("abcdmnopyz#%", max_size=18),
    st.sampled_from("123456"),
    st.sampled_from("abcmno"),
    st.integers(1, 15),
)
