"""Answers that are lists of titles, token by token: what the constraints over a catalogue have in common.

A state holds the list so far and what has to be written before the next choice. Tokens that are forced stand in it
ready, so that following them costs nothing. Items that may not stand any more are kept by the nodes above them, so that
an answer is never read again; a list that grows copies these few entries, because samples and beams share states.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.controls.lookahead import Range, open_cells, ranges_of
from ctrlrec.controls.registry import CHAT
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.lists.views import Form
from ctrlrec.generation.lists.written import Question, Written
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.spelling import Spelling, spell_lists, spell_titles

_LONGEST = 100  # items of a list, the bound of evaluation.item_count


@dataclass(slots=True, eq=False)  # a frozen one takes twice the time to make
class State:
    """A place in an answer; a value.

    Attributes:
        written: the list up to the title that is written next.
        node: of the trie, after ``ahead``.
        ahead: tokens that must come first; ``at`` of them are written.
        open: (n,) tokens that may come then.
    """

    written: Written
    node: int
    ahead: tuple[int, ...]
    at: int
    open: np.ndarray

    def __repr__(self) -> str:
        written = self.written
        return f"item {written.line} of {written.question.count}, {len(self.open)} tokens after {self.ahead[self.at :]}"


class ListConstraint(Constraint):
    """Lists of titles: k lines "n. Title", then the end of the answer. Chat is free.

    Attributes:
        repeats: whether an item may stand twice, and stand though it is in the history.

    Raises:
        CtrlRecError: if the tokenizer does not allow to follow its lists, or two titles cannot be told apart.
    """

    ends_itself = True
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
                "the next line after it, so that an answer could mean both; set constraint.name=none, or rename one"
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
        ranges = ranges_of(conditions, count)
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
        """Return the state after everything that is forced from a node on."""
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
                return self._choice(State(written, node, tuple(ahead), at, tokens))
            node, ends = trie.child(node, int(tokens[0]))
            if not ends:  # what follows a title brings its first token itself
                ahead.append(int(tokens[0]))

    def _choice(self, state: State) -> State:
        """Return a state in which several tokens may come.

        Raises:
            CtrlRecError: if there is none; a demand that can be met never leads there.
        """
        if not len(state.open):
            raise CtrlRecError(f"constraint.name={self.settings.name}: no token is allowed in the state {state!r}")
        return state

    def choices(self, state: State | None) -> np.ndarray | None:
        """Return the ids of the tokens that may come next, never none; None for all."""
        if state is None:
            return None
        if state.at == len(state.ahead):
            return state.open
        token = state.ahead[state.at]
        found = self._single.get(token)
        if found is None:
            found = self._single[token] = np.array([token])
        return found

    allowed = choices

    def forced(self, state: State, most: int) -> tuple[list[int], State | None]:
        """Return the tokens that are forced from a state on, and the state after them; None at the end."""
        run = list(state.ahead[state.at : state.at + most])
        if run and run[-1] == self.chat_format.end:
            return run, None
        return run, State(state.written, state.node, state.ahead, state.at + len(run), state.open)

    def advance(self, state: State, token: int) -> State:
        """Return the state after an allowed token that does not end the answer."""
        if state.at < len(state.ahead):
            return State(state.written, state.node, state.ahead, state.at + 1, state.open)
        child, ends = state.written.view.trie.child(state.node, token)
        return self._settle(state.written, child, [], int(ends))  # after a title, it is the first of what follows


_NOTHING = np.empty(0, np.int64)
