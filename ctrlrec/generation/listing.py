"""Answers that are lists of titles, token by token: what the constraints over a catalogue have in common.

A state holds the list so far and what has to be written before the next choice. Tokens that are forced stand in it
ready, so that following them costs nothing. Items that may not stand any more are kept by the nodes above them, so that
an answer is never read again; a list that grows copies these few entries, because samples and beams share states.
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.controls.lookahead import Range, open_cells
from ctrlrec.controls.registry import CHAT
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.trie import STOP
from ctrlrec.generation.views import Form
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.spelling import Spelling, spell_lists, spell_titles

_LONGEST = 100  # items of a list, the bound of evaluation.item_count


class State(NamedTuple):
    """A place in an answer.

    Attributes:
        written: the list up to the title that is written next.
        node: of the trie, behind ``ahead``.
        ahead: tokens that must come first; ``at`` of them are written.
        open: (n,) tokens that may come then.
    """

    written: "Written"
    node: int
    ahead: tuple[int, ...]
    at: int
    open: np.ndarray

    def __repr__(self) -> str:
        written = self.written
        return f"item {written.line} of {written.question.count}, {len(self.open)} tokens after {self.ahead[self.at :]}"


class Question:
    """What one instruction asks, with the memory that its states share.

    Attributes:
        form: how the list is written.
        count: items of the list.
        share: most tokens of a title, so that every list fits into an answer; None for no bound.
        categories: rows of the membership that conditions are about, in their order.
        cells: of every item of the catalogue; empty without conditions.
        filtered: tokens of nodes of which some children have nothing left.
    """

    def __init__(self, form: Form, count: int, limit: int | None, conditions: Sequence[Condition]):
        self.form, self.count, self.share = form, count, form.share(count, limit)
        index = form.catalogue.category_index
        self.categories = tuple([index[condition.category] for condition in conditions])
        self.cells = form.cells(self.categories) if conditions else b""
        self.filtered: dict[Any, np.ndarray] = {}

    def left(self, barred: Sequence[int]) -> tuple[int, ...]:
        """Return how many items of each cell may stand in the list if some are barred."""
        sizes = list(self.form.sizes(self.share, self.categories))
        for item in barred:
            if self.form.holds(item, self.share):
                sizes[self.cells[item] if self.cells else 0] -= 1
        return tuple(sizes)


class Written:
    """A list so far; a value.

    Attributes:
        question: what is asked.
        line: number of the title that is written next, from 1.
        barred: items of the history and of the list, if neither may stand.
        used: their sorted rows, by the nodes of the trie above them.
        touched: children of a node that may have nothing left, as :meth:`View.closed` takes them.
        ranges: fewest and most of the items left that each condition counts.
        sizes: items left in each cell.
        view: the items that may stand on this line, ``barred`` aside.
    """

    __slots__ = ("barred", "line", "question", "ranges", "sizes", "touched", "used", "view")

    def __init__(
        self,
        question: Question,
        line: int,
        barred: tuple[int, ...],
        ranges: tuple[Range, ...],
        sizes: tuple[int, ...],
        before: "Written | None" = None,
    ):
        self.question, self.line, self.barred, self.ranges, self.sizes = question, line, barred, ranges, sizes
        left = question.count - line + 1
        cells = open_cells(left, ranges, tuple([min(size, left) for size in sizes])) if ranges else (0,)
        self.view = question.form.view(line == question.count, question.share, question.categories, cells)
        same = before is not None and before.view.trie is self.view.trie
        self.used: dict[int, tuple[int, ...]] = dict(before.used) if before is not None and same else {}
        self.touched: dict[int, tuple[int, ...]] = dict(before.touched) if before is not None and same else {}
        self._bar(barred[len(before.barred) :] if before is not None and same else barred)

    def _bar(self, items: Sequence[int]) -> None:
        """Put items under the nodes above them."""
        trie, used, touched, every = self.view.trie, self.used, self.touched, self.view.holds_all
        parent, sizes = trie.parent, trie.sizes
        for item in items:
            row = trie.row_of.get(item)
            if row is None:  # no candidate
                continue
            node = trie.leaf[row]
            while node > 0:
                above = parent[node]
                used[node] = rows = (*used.get(node, ()), row)
                if len(rows) == (sizes[node] if every else 1):
                    touched[above] = (*touched.get(above, ()), node)
                node = above

    def and_then(self, item: int, repeats: bool) -> "Written":
        """Return the list with one more item."""
        barred = self.barred if repeats else (*self.barred, item)
        ranges, sizes = self.ranges, self.sizes
        if self.question.cells:
            cell = self.question.cells[item]
            ranges = tuple([(low - (cell >> place & 1), high - (cell >> place & 1))
                            for place, (low, high) in enumerate(ranges)])  # fmt: skip
            sizes = (*sizes[:cell], sizes[cell] - 1, *sizes[cell + 1 :])
        return Written(self.question, self.line + 1, barred, ranges, sizes, self)

    def options(self, node: int) -> np.ndarray:
        """Return the tokens that may come behind a node, (n,)."""
        view, question, touched = self.view, self.question, self.touched.get(node)
        options = view.options(node)
        closed = view.closed(self.used, touched) if touched else ()
        if not closed and not options.stops:
            return options.tokens
        stop = question.form.stop(self.line, question.count) if options.stops else STOP
        kept, key = (question.filtered if closed else view.stopped), (view, node, closed, stop)
        found = kept.get(key)
        if found is None:
            found = kept[key] = options.but(closed, stop)
        return found


class ListConstraint(Constraint):
    """Lists of titles: k lines "n. Title", then the end of the answer. Chat is free.

    Attributes:
        repeats: whether an item may stand twice, and stand though it is in the history.

    Raises:
        CtrlRecError: if the tokenizer does not allow to follow its lists, or two titles cannot be told apart.
    """

    repeats: ClassVar[bool] = False

    def __init__(self, catalogue: Catalogue, chat_format: ChatFormat, settings: ConstraintConfig):
        super().__init__(catalogue, chat_format, settings)
        self._single: dict[int, np.ndarray] = {}

    @abstractmethod
    def conditions(self, instruction: Instruction) -> Sequence[Condition]:
        """Return what the list must meet."""

    @cached_property
    def _lists(self) -> Form:
        return self._form(spell_lists(self.chat_format, self.catalogue.titles, _LONGEST))

    @cached_property
    def _titles(self) -> Form:
        return self._form(spell_titles(self.chat_format, self.catalogue.titles))

    def _form(self, spelling: Spelling) -> Form:
        form = Form(spelling, self.catalogue)
        if (clash := form.clash()) is not None:
            shorter, longer = (self.catalogue.titles[item] for item in clash)
            raise CtrlRecError(
                f"constraint.name={self.settings.name}: the title {longer!r} begins like the title {shorter!r} with "
                "the next line behind it, so that an answer could mean both; set constraint.name=none, or rename one"
            )
        return form

    def start(self, instruction: Instruction) -> State | None:
        """Return the state before an answer; None for chat.

        Raises:
            CtrlRecError: if no list meets the demand, naming the category, k and what is left.
        """
        if instruction.task == CHAT:
            return None
        return self._begin(instruction, self._lists, instruction.item_count)

    def alone(self, instruction: Instruction) -> State | None:
        """Return the state before an answer that is one title without a number, as beams write it.

        Raises:
            CtrlRecError: if there are fewer titles than the k beams need.
        """
        return self._begin(instruction, self._titles, 1)

    def _begin(self, instruction: Instruction, form: Form, count: int) -> State:
        if instruction.candidates is not None:
            form = Form(form.spelling, self.catalogue, instruction.candidates)
        conditions = self.conditions(instruction)
        question = Question(form, count, self.limit, conditions)
        barred = () if self.repeats else tuple(dict.fromkeys(instruction.history))
        sizes = question.left(barred)
        ranges = self._ranges(instruction, conditions, question, sizes)
        return self._settle(Written(question, 1, barred, ranges, sizes), 0, [*form.spelling.head])

    def _ranges(
        self, instruction: Instruction, conditions: Sequence[Condition], question: Question, sizes: tuple[int, ...]
    ) -> tuple[Range, ...]:
        """Return fewest and most items that each condition counts.

        Raises:
            CtrlRecError: if no list meets the demand.
        """
        count, left = instruction.item_count, sum(sizes)
        among = "" if instruction.candidates is None else f" among {len(instruction.candidates)} candidates"
        among += "" if question.share is None else f" with titles of at most {question.share} tokens"
        among += "" if self.repeats else " outside the history"
        advice = "ask for fewer items" + ("" if question.share is None else " or raise model.max_response_length")
        said = f"constraint.name={self.settings.name}: no list of {count} items{among}"
        if left < (1 if self.repeats else count):
            raise CtrlRecError(f"{said}: {left} are left; {advice}")
        allowed = [condition.control.allowed(count, condition.proportion) for condition in conditions]
        ranges = tuple((counts[0], counts[-1]) if counts else (1, 0) for counts in allowed)
        if conditions and not open_cells(count, ranges, tuple(min(size, count) for size in sizes)):
            wishes = []
            for place, (condition, (low, high)) in enumerate(zip(conditions, ranges, strict=True)):
                percent = "" if condition.proportion is None else f" {condition.proportion}%"
                inside = sum(size for cell, size in enumerate(sizes) if cell >> place & 1)
                wishes.append(
                    f"{condition.control.task}{percent} of '{condition.category}' takes {low} to {high} of it, and "
                    f"{inside} of {left} items left are in it"
                )
            raise CtrlRecError(f"{said} meets what is asked: {'; '.join(wishes)}; {advice}")
        return ranges

    def _settle(self, written: Written, node: int, ahead: list[int], at: int = 0) -> State:
        """Return the state behind everything that is forced from a node on."""
        question = written.question
        spelling, count = question.form.spelling, question.count
        while True:
            trie = written.view.trie
            if trie.sizes[node] == 1:
                row, rest = trie.rest(node)
                ahead += rest
                if written.line == count:
                    return State(written, -1, (*ahead, spelling.end), at, _NOTHING)
                ahead += spelling.separators[written.line + 1]
                written = written.and_then(int(trie.items[row]), self.repeats)
                node = 0
                continue
            tokens = written.options(node)
            if len(tokens) != 1:
                return State(written, node, tuple(ahead), at, tokens)
            children = trie.children(node)
            child = children.get(int(tokens[0]))
            if child is None:  # the title ends here; its stop comes with what follows
                child = children[STOP]
            else:
                ahead.append(int(tokens[0]))
            node = child

    def allowed(self, state: State) -> np.ndarray:
        """Return the tokens that may come next."""
        if state.at == len(state.ahead):
            return state.open
        token = state.ahead[state.at]
        found = self._single.get(token)
        if found is None:
            found = self._single[token] = np.array([token])
        return found

    def advance(self, state: State, token: int) -> State:
        """Return the state after an allowed token that does not end the answer."""
        written, node, ahead, at, _ = state
        if at < len(ahead):
            return State(written, node, ahead, at + 1, state.open)
        children = written.view.trie.children(node)
        child = children.get(token)
        if child is None:  # the first token behind the title, which is the first of what follows
            return self._settle(written, children[STOP], [], 1)
        return self._settle(written, child, [])


_NOTHING = np.empty(0, np.int64)
