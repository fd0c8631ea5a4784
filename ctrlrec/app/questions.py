"""A question of the playground, and the link that asks it again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ctrlrec.app.wishes import Wish
from ctrlrec.errors import CtrlRecError

LARGEST_LINK = 4096  # characters


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the playground.

    Attributes:
        history: titles, oldest first; empty for a user of the data.
        user: id of a user of the data; None for a history.
        wishes: what the list should be, in order.
        k: number of items.
        constraint: what the model may write; None for that of its run.
    """

    history: tuple[str, ...] = ()
    user: str | None = None
    wishes: tuple[Wish, ...] = ()
    k: int = 10
    constraint: str | None = None

    def asked(self) -> dict[str, Any]:
        """Return the arguments of :meth:`ctrlrec.Recommender.recommend`; a user goes before a history."""
        whose: dict[str, Any] = {"user": self.user} if self.user is not None else {"history": self.history}
        return whose | {"controls": self.wishes, "k": self.k, "constraint": self.constraint}

    def link(self) -> str:
        """Return the query part of the link that asks this again."""
        parts = [("title", title) for title in self.history]
        parts += [("user", self.user)] if self.user is not None else []
        parts += [("wish", _written(wish)) for wish in self.wishes]
        parts += [("k", str(self.k))]
        parts += [("constraint", self.constraint)] if self.constraint is not None else []
        return "?" + urlencode(parts)

    @classmethod
    def of_link(cls, query: Iterable[tuple[str, str]]) -> "Question":
        """Return the question of a link.

        Args:
            query: names and values, in order.

        Raises:
            CtrlRecError: for a link that is too long or holds something else.
        """
        pairs = list(query)
        if sum(len(name) + len(value) for name, value in pairs) > LARGEST_LINK:
            raise CtrlRecError(f"the link is longer than {LARGEST_LINK} characters; ask again")
        single: Mapping[str, str] = dict(pairs)
        number = single.get("k", "10")
        if not (number.isascii() and number.isdecimal() and len(number) < 5):
            raise CtrlRecError(f"k={number}: expected a number of items")
        return cls(
            tuple(value for name, value in pairs if name == "title"),
            single.get("user"),
            tuple(_read(value) for name, value in pairs if name == "wish"),
            int(number),
            single.get("constraint"),
        )


def _written(wish: Wish) -> str:
    return ":".join((wish.kind, "" if wish.percent is None else str(wish.percent), wish.category))


def _read(text: str) -> Wish:
    kind, percent, category = (*text.split(":", 2), "", "")[:3]
    if not category or not (percent == "" or (percent.isascii() and percent.isdecimal() and len(percent) < 4)):
        raise CtrlRecError(f"wish={text}: expected kind:percent:category, such as at_most:30:Drama")
    return Wish(kind, category, int(percent) if percent else None)
