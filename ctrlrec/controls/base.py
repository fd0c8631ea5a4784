"""The base of a control: its wording, what it allows, how far a list is off, how items are scored, its measure."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import ClassVar

_OWN_STREAMS = 16  # random streams of plug-ins start here


def demand(item_count: int, percent: int | None) -> int:
    """Return k*m in hundredths of an item, exact, while ``10 * 0.7 > 7`` in floating point.

    Args:
        item_count: k.
        percent: m, 0 to 100; None counts as 0.
    """
    return item_count * (percent or 0)


class Control(ABC):
    """One kind of wish about the items of a category (Sections 2.2.1 and 2.3, Table 7).

    Every module in ``controls/kinds`` defines one as ``CONTROL``; its name is the control's kind (spec section 12).

    Attributes:
        task: name in files and in ``variant.tasks`` families (spec section 1).
        family: name in ``variant.tasks``; users take turns with the controls of one family.
        turn: place in these turns.
        stream: number of its random stream; a fixed one keeps old numbers, None derives one from ``task``.
        order: place among settings and tables.
        listing: the prompt in ``listings.yaml`` around the sentence.
        sentences: what a user says; ``{target_category}`` and ``{category_proportion}`` are filled in.
        takes_percent: whether it comes with a proportion.
        opposes: whether its category is one that the target does not have.
        settings: percents asked in evaluation by name of the setting; None without a percent.
        validation: percents asked on validation users (Section 3.1.1); None without a percent, empty for never.
        metric: name of its measure, TCP@10 or CPA.
        lower_is_better: direction of the measure.
    """

    task: ClassVar[str]
    family: ClassVar[str]
    turn: ClassVar[int] = 0
    stream: ClassVar[int | None] = None
    order: ClassVar[int] = 100
    listing: ClassVar[str]
    sentences: ClassVar[Sequence[str]]
    takes_percent: ClassVar[bool]
    opposes: ClassVar[bool] = False
    settings: ClassVar[Mapping[str, int | None]]
    validation: ClassVar[Sequence[int | None]] = ()
    metric: ClassVar[str]
    lower_is_better: ClassVar[bool] = False

    @property
    def stream_number(self) -> int:
        """Number of the random stream that its samples are drawn from."""
        if self.stream is not None:
            return self.stream
        return _OWN_STREAMS + int.from_bytes(hashlib.sha256(self.task.encode()).digest()[:4])

    def sentence(self, category: str, percent: int | None, phrasing: int) -> str:
        """Return the user's intention in words.

        Args:
            category: what it is about.
            percent: m, for controls that take one.
            phrasing: which wording, counted around.
        """
        wording = self.sentences[phrasing % len(self.sentences)]
        return wording.format_map({"target_category": category, "category_proportion": f"{percent}%"})

    @abstractmethod
    def allowed(self, item_count: int, percent: int | None) -> range:
        """Return every number of in-category items, of ``item_count``, that obeys the control (Equation 7)."""

    @abstractmethod
    def off(self, count_in: int, count_out: int, item_count: int, percent: int | None) -> Fraction:
        """Return how many items a list is off, x in 1/log2(x + 2) of Equation 4.

        Args:
            count_in: legal items in the category.
            count_out: legal items outside it.
            item_count: k.
            percent: m.
        """

    @abstractmethod
    def item_score(self, inside: bool, count_in: int, count_out: int, item_count: int, percent: int | None) -> float:
        """Return the control score of one legal item (Algorithm 1).

        Args:
            inside: whether the item is in the category.
            count_in: legal items in the category so far, this one included; likewise ``count_out``.
            count_out: those outside it.
            item_count: k.
            percent: m.
        """

    def released_list_score(
        self, count_in: int, count_out: int, item_count: int, percent: int | None, category_size: int
    ) -> float:
        """Return the list control of the authors' code: 1 over the distance plus one (spec section 5)."""
        return 1 / float(self.off(count_in, count_out, item_count, percent) + 1)

    def counted(self, inside: Sequence[bool | None], item_count: int, literal: bool = False) -> int:
        """Return how many items of a list the measure counts as in the category; arguments as in :meth:`measure`."""
        return inside.count(True)

    def violation(self, inside: Sequence[bool | None], item_count: int, percent: int | None) -> int:
        """Return the items by which a list misses what is allowed, 0 if it obeys; arguments as in :meth:`measure`."""
        count, allowed = self.counted(inside, item_count), self.allowed(item_count, percent)
        return max(allowed[0] - count, count - allowed[-1], 0)

    @abstractmethod
    def measure(
        self, inside: Sequence[bool | None], item_count: int, percent: int | None, literal: bool = False
    ) -> float:
        """Return the measure of one list (spec section 7), 0 to 1.

        Args:
            inside: of each item among the first ``item_count`` written, whether it is in the category; None for a
                title that does not exist. Items that are missing are those up to ``item_count``.
            item_count: items that count.
            percent: m.
            literal: whether missing and invented items are counted as printed in Equations 6 and 7.
        """


class CategoryControl(Control):
    """More of a category, or none of it; measured by the share of the list in the category, TCP (Equation 6)."""

    family = "category"
    listing = "category"
    takes_percent = False
    metric = "TCP@10"

    def counted(self, inside: Sequence[bool | None], item_count: int, literal: bool = False) -> int:
        """Return the count; if less is better, a missing item counts as in the category, so that silence never wins."""
        missing = item_count - len(inside) if self.lower_is_better and not literal else 0
        return inside.count(True) + missing

    def measure(
        self, inside: Sequence[bool | None], item_count: int, percent: int | None, literal: bool = False
    ) -> float:
        """Return TCP."""
        return self.counted(inside, item_count, literal) / item_count


class ProportionControl(Control):
    """A share of the list from a category; measured by whether the share holds, CPA (Equation 7)."""

    family = "proportion"
    listing = "proportion"
    takes_percent = True
    metric = "CPA"
    bounds_above: ClassVar[bool] = False

    def counted(self, inside: Sequence[bool | None], item_count: int, literal: bool = False) -> int:
        """Return the count; under an upper bound invented and missing items count as in the category."""
        count = inside.count(True)
        if self.bounds_above and not literal:
            count += inside.count(None) + item_count - len(inside)
        return count

    def measure(
        self, inside: Sequence[bool | None], item_count: int, percent: int | None, literal: bool = False
    ) -> float:
        """Return 1 if the share holds, else 0."""
        return float(self.counted(inside, item_count, literal) in self.allowed(item_count, percent))


def at_most_score(welcome: bool, count_in: int, count_out: int, wanted_in: int, wanted_out: int) -> float:
    """Return the at-most branch of Algorithm 1; at least is its mirror, with the sides exchanged.

    All four numbers are in hundredths of an item.
    """
    if count_out > wanted_out:
        return 0.5
    if welcome:
        return 1.0
    return 0.5 if count_in < wanted_in else 0.0
