"""Recommendations from a trained model, as a library.

```python
from ctrlrec import Recommender, Wish

recommender = Recommender.load("runs/evaluate/NAME")
answer = recommender.recommend(["Fargo (1996)", "Twister (1996)"], [Wish("positive", "Comedy")], k=5)
print(answer.titles, answer.satisfied)
```
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from ctrlrec.app.answers import Outcome, Recommendation, RecommendedItem
from ctrlrec.app.loading import Parts, load, released
from ctrlrec.app.wishes import Wish, check_possible, condition_of, unknown_title, wish_of
from ctrlrec.config.choices import nearest
from ctrlrec.config.compose import constraint_settings
from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.answering import Answerer, read_answers, teacher_answers
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.listening import Listening
from ctrlrec.instructions.asking import ask
from ctrlrec.pipeline.answering import model_answers
from ctrlrec.pipeline.settings import constrained
from ctrlrec.rewards.judging import Judgement, legality, side_of
from ctrlrec.rewards.reward import Reward


class Recommender:
    """Answers questions with a trained model, one at a time: threads may share it.

    Args:
        parts: what :func:`ctrlrec.app.loading.load` gives.
    """

    def __init__(self, parts: Parts):
        self._parts, self._catalogue = parts, parts.builder.catalogue
        self._matcher = TitleMatcher(self._catalogue.titles, parts.config.evaluation.match_max_edits)
        self._reward = Reward(parts.config.reward)
        self._constraints: dict[str, tuple[ConstraintConfig, Constraint | None]] = {}
        sequences = parts.builder.sequences
        self._places = {sequences.users[place]: place for place in sequences.tested.tolist()}
        self._lock = threading.Lock()

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Recommender":
        """Load a model with all that belongs to it.

        Threads of torch stay as they are; its precision of matrix products becomes that of the run.

        Args:
            path: folder of a finished result of the stages sl, rl or evaluate, of a run with one row, or of a
                released model; None for the released model that comes with the package.

        Raises:
            CtrlRecError: if there is no such model, or its files are not as they were left.
        """
        return cls(load(released() if path is None else Path(path)))

    @property
    def name(self) -> str:
        """Name of the result or of the released model."""
        return self._parts.name

    @property
    def titles(self) -> tuple[str, ...]:
        """Every title of the catalogue."""
        return self._catalogue.titles

    @property
    def categories(self) -> dict[str, int]:
        """Every category with its number of items."""
        return dict(zip(self._catalogue.category_names, self._catalogue.category_sizes.tolist(), strict=True))

    @property
    def users(self) -> tuple[str, ...]:
        """Ids of the users with a test item; empty if the model was packed without them."""
        return tuple(self._places)

    @property
    def history_length(self) -> int:
        """The most items that a history may have."""
        return self._parts.config.dataset.history_length

    @property
    def constraint(self) -> str:
        """The constraint on answers unless a question sets another (``constraint=`` of its run)."""
        config = self._parts.config
        return config.constraint.name if constrained(config, "evaluate") else "none"

    def history_of(self, user: str) -> tuple[tuple[str, ...], str]:
        """Return the newest items of a user, oldest first, and the one that followed: the test item.

        Raises:
            CtrlRecError: for a user who is not in the data, or without a test item.
        """
        items, target = self._history_of(user)
        return tuple(self._catalogue.titles[item] for item in items), self._catalogue.titles[target]

    def example_history(self) -> tuple[str, ...]:
        """Return a history for trying out: the most popular items, for a model that was packed without users."""
        order = np.argsort(-np.asarray(self._catalogue.interactions), kind="stable")
        return tuple(self._catalogue.titles[item] for item in order[: self.history_length])

    def recommend(
        self,
        history: Sequence[str] = (),
        controls: Sequence[Wish] = (),
        k: int = 10,
        *,
        user: str | None = None,
        constraint: str | None = None,
        phrasing: int = 0,
    ) -> Recommendation:
        """Return the model's list of k items, decoded greedily.

        Args:
            history: titles, oldest first; a few typing errors are forgiven, as in evaluation.
            controls: what the list should be; several are asked as one blend, in this order.
            k: number of items.
            user: id of a user of the data, whose newest items are the history; in place of ``history``.
            constraint: what the model may write (``constraint=``); None for that of its run.
            phrasing: which of a control's wordings to use, counted around.

        Raises:
            CtrlRecError: for an unknown title, user, category or constraint, each with the nearest ones; a history that
                is empty, too long or names an item twice; or a demand that no list can meet.
        """
        named = constraint or self.constraint
        with self._lock:
            instruction = self._question(history, controls, k, user, phrasing)
            (text,) = self._answerer(named)([instruction])
        return self._judged(instruction, text, named)

    def stream(
        self,
        history: Sequence[str] = (),
        controls: Sequence[Wish] = (),
        k: int = 10,
        *,
        user: str | None = None,
        constraint: str | None = None,
        phrasing: int = 0,
    ) -> Iterator[Recommendation]:
        """Yield the answer of :meth:`recommend` whenever an item of it is finished, and at last the whole answer.

        Rows that answer with beams or by the teacher have all items at once. An answer that nobody waits for is still
        finished.

        Raises:
            CtrlRecError: as :meth:`recommend`.
        """
        named, parts = constraint or self.constraint, self._parts
        with self._lock:
            instruction = self._question(history, controls, k, user, phrasing)
        heard: SimpleQueue[int | str | BaseException] = SimpleQueue()

        def answer() -> None:
            try:
                with self._lock:
                    heard.put(self._answerer(named, heard.put)([instruction])[0])
            except BaseException as error:
                heard.put(error)

        threading.Thread(target=answer, daemon=True).start()
        tokens: list[int] = []
        lines = 0
        while isinstance(token := heard.get(), int):
            tokens.append(token)
            text = parts.chat_format.decode(list(tokens))
            if text.count("\n") > lines:
                lines = text.count("\n")
                yield self._judged(instruction, text[: text.rindex("\n")], named)
        if isinstance(token, BaseException):
            raise token
        yield self._judged(instruction, token, named)

    def _history_of(self, user: str) -> tuple[tuple[int, ...], int]:
        if user not in self._places:
            if not self._places:
                raise CtrlRecError(f"user {user}: {self.name} was packed without its users; give a history instead")
            users = list(self._places)
            hint = nearest(user, users) if len(users) <= 12 else f"users are such as {', '.join(users[:5])}, ..."
            raise CtrlRecError(f"no user '{user}' in the data; {hint}")
        items, target = self._parts.builder.sequences.test(self._places[user])
        return tuple(items.tolist()), target

    def _items(self, history: Sequence[str]) -> tuple[int, ...]:
        if len(history) > self.history_length:
            raise CtrlRecError(
                f"a history of {len(history)} titles: the model reads at most {self.history_length}; leave out the "
                f"oldest {len(history) - self.history_length}, which come first"
            )
        items: list[int] = []
        for title in history:
            item = self._matcher(title)
            if item is None:
                raise unknown_title(title, self._catalogue)
            if item in items:
                raise CtrlRecError(f"the history names '{self._catalogue.titles[item]}' twice; leave one out")
            items.append(item)
        return tuple(items)

    def _question(
        self, history: Sequence[str], controls: Sequence[Wish], k: int, user: str | None, phrasing: int
    ) -> Instruction:
        """Return the instruction of a question, which some list can meet."""
        if (user is None) == (not history):
            raise CtrlRecError("expected a history of titles or a user of the data, one of both")
        items, target = self._history_of(user) if user is not None else (self._items(history), None)
        conditions = [condition_of(wish, self._catalogue) for wish in controls]
        builder = self._parts.builder
        scores = builder.ranker.scores([items])[0].float().cpu().numpy()
        check_possible(conditions, k, scores, items, self._catalogue)
        suffix = self._parts.config.variant.prompt_suffix or ""
        instruction = ask(builder, items, conditions, k, phrasing, user, target, suffix)
        if user is None and len(instruction.history) < len(items):
            raise CtrlRecError(
                f"the question is too long: the model reads the newest {len(instruction.history)} of {len(items)} "
                "titles; leave out the oldest"
            )
        return instruction

    def _answerer(self, name: str, heard: Callable[[int], None] | None = None) -> Answerer:
        """Return what answers under a constraint; ``heard`` is called with every token of the answer."""
        parts = self._parts
        if parts.model is None:
            return teacher_answers(parts.builder)
        if name not in self._constraints:
            settings = parts.config.constraint if name == self.constraint else constraint_settings(name)
            self._constraints[name] = settings, make_constraint(settings, self._catalogue, parts.chat_format)
        settings, constraint = self._constraints[name]
        if heard is not None and not parts.config.variant.beam_search:
            constraint = Listening(self._catalogue, parts.chat_format, settings, heard, constraint)
        return model_answers(parts.config, parts.model, parts.chat_format, constraint)

    def _judged(self, instruction: Instruction, text: str, constraint: str) -> Recommendation:
        catalogue, builder = self._catalogue, self._parts.builder
        lenient = self._parts.config.variant.lenient_answers
        (written,), (items,) = read_answers([instruction], [text], self._matcher, lenient)
        (ranks,) = builder.ranker.ranks([instruction.history], [items])
        illegal = legality(items, instruction.history, instruction.item_count)
        sides = tuple(side_of(condition, items, illegal, catalogue) for condition in instruction.conditions)
        judgement = Judgement(instruction, tuple(items), illegal, tuple(ranks), sides)
        listed = tuple(
            RecommendedItem(
                title,
                None if item is None else catalogue.titles[item],
                () if item is None else catalogue.categories[item],
                rank,
                reason,
                earned,
            )
            for title, item, rank, reason, earned in zip(
                written, items, ranks, illegal, self._reward.item(judgement), strict=True
            )
        )
        return Recommendation(
            listed,
            tuple(self._outcome(condition, items, instruction.item_count) for condition in instruction.conditions),
            tuple(catalogue.titles[item] for item in instruction.history),
            instruction.user,
            None if instruction.target is None else catalogue.titles[instruction.target],
            instruction.item_count,
            constraint,
            self._reward.list(judgement),
            instruction.prompt,
            text,
            self.name,
        )

    def _outcome(self, condition: Condition, items: Sequence[int | None], k: int) -> Outcome:
        row = self._catalogue.membership[self._catalogue.category_index[condition.category]]
        inside = [None if item is None else bool(row[item]) for item in items[:k]]
        missed = condition.control.violation(inside, k, condition.proportion)
        return Outcome(wish_of(condition), inside.count(True), missed == 0)
