"""The parts of a recommendation."""

from dataclasses import asdict, dataclass
from typing import Any

from ctrlrec.app.wishes import Wish


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One line of an answer.

    Attributes:
        title: as the model wrote it.
        item: title in the catalogue, matched as in evaluation; None if it is not an item.
        categories: of the item.
        teacher_rank: place in the teacher's order, 0 for its best; None for no item and for one of the history.
        illegal: why the line does not count: ``nonexistent``, ``repeat``, ``history`` or ``excess``; None
            if it is one.
        reward: item-level reward (Equation 2), before its weight.
    """

    title: str
    item: str | None
    categories: tuple[str, ...]
    teacher_rank: int | None
    illegal: str | None
    reward: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether and how far a wish was met.

    Attributes:
        wish: what was asked.
        count: items of the list in its category, up to k.
        satisfied: whether the list meets it. Missing and invented items count as in evaluation (spec section 7), so
            that an empty list meets no upper bound.
    """

    wish: Wish
    count: int
    satisfied: bool


@dataclass(frozen=True, slots=True)
class Recommendation:
    """An answer to one question.

    Attributes:
        items: in the order in which they were written; more or fewer than ``item_count`` as the model wrote them.
        outcomes: one for each wish.
        history: titles that the model read, oldest first.
        user: id in the data set; None for a typed history.
        target: title that the user really took next; None if unknown.
        item_count: k, the number of items asked for.
        constraint: what the model was allowed to write (``constraint=``).
        list_reward: list-level reward (Equation 5), before its weight.
        prompt: text of the question as the model read it, without its chat template.
        response: text of the answer as the model wrote it.
        model: name of the result or of the released model.
    """

    items: tuple[RecommendedItem, ...]
    outcomes: tuple[Outcome, ...]
    history: tuple[str, ...]
    user: str | None
    target: str | None
    item_count: int
    constraint: str
    list_reward: float
    prompt: str
    response: str
    model: str

    @property
    def satisfied(self) -> bool:
        """Whether the list meets every wish."""
        return all(outcome.satisfied for outcome in self.outcomes)

    @property
    def titles(self) -> tuple[str, ...]:
        """Titles as the model wrote them."""
        return tuple(item.title for item in self.items)

    def record(self) -> dict[str, Any]:
        """Return everything as plain containers, ready for JSON."""
        return asdict(self) | {"satisfied": self.satisfied}
