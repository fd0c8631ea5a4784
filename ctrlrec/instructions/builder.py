"""Builds the instruction set of Table 7, the validation set, RL prompts and evaluation questions.

Every sample is a function of (seed, epoch, user, task) alone: each draws from its own counter-based generator, so
neither worker count nor order nor a resumed run changes it.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ctrlrec.config.schema import InstructionsConfig
from ctrlrec.controls.base import Control
from ctrlrec.controls.instruction import Example, Instruction, Messages
from ctrlrec.controls.registry import (
    BLEND,
    CHAT,
    PAPER_FAMILIES,
    SEARCH,
    SEQUENTIAL,
    control_of,
    controls,
    kind_of,
    stream_number,
)
from ctrlrec.controls.registry import families as known_families
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.instructions import chat, templates
from ctrlrec.instructions.completion import Completion
from ctrlrec.instructions.drafts import Blending, Draft
from ctrlrec.lm.chat_format import PromptLimit
from ctrlrec.teacher.ranker import Ranker

log = logging.getLogger(__name__)

_CHAT_DRAWS = 100  # turns to try for one that fits
_VALIDATION_EPOCH, _ROLLOUT_EPOCH, _EVALUATION_EPOCH = 2**32, 2**33, 2**34  # streams that no training epoch reaches
_BLENDED = 2**34  # streams that no task has: a blend is drawn apart from the single condition that it stands for


def generator(seed: int, epoch: int, subject: int, task: str, blended: bool = False) -> np.random.Generator:
    """Return the generator of one sample, set by (seed, epoch, user or item, task) and nothing else.

    With ``blended`` it is that of the blend which stands for the sample.
    """
    counter = [0, epoch, subject, stream_number(task) + _BLENDED * blended]
    return np.random.Generator(np.random.Philox(key=[seed, 0x6374726C726563], counter=counter))


def _turn(tasks: Sequence[str], place: int, epoch: int) -> str:
    return tasks[(place + epoch) % len(tasks)]


def _kinds(families: Collection[str]) -> dict[str, Control]:
    return {kind_of(control): control for control in controls() if control.family in families}


class InstructionBuilder(Completion):
    """Turns sequences and a teacher into instructions with labels."""

    def __init__(
        self,
        catalogue: Catalogue,
        sequences: Sequences,
        ranker: Ranker,
        config: InstructionsConfig,
        limit: PromptLimit,
        seed: int,
        own_families: Sequence[str] = (),
    ):
        super().__init__(catalogue, sequences, ranker, config, limit)
        self.seed = seed
        self.families = (*PAPER_FAMILIES, *own_families)
        self._blended = _kinds(self.families)
        self.dialogues, self.chat_report = chat.load_dialogues(config.chat_path)
        # A user with one training item has no window: a history of at least one item and a target.
        self.users = [user for user in range(len(sequences)) if len(sequences.train(user)) >= 2]
        self._long_chat: set[tuple[Messages, str]] = set()
        self._told_of_long_chat = False

    # ------------------------------------------------------------------ training

    def epoch(self, epoch: int, families: Collection[str]) -> list[Example]:
        """Return one epoch of Table 7, in a fixed order (shuffling is the trainer's).

        Args:
            epoch: from 0.
            families: which of ``variant.tasks`` to build.

        Returns:
            Per user one I0, one I1 (half +, half -), one I2 (thirds); per item one I3; chat in its ratio to them.
        """
        tasks = self._user_tasks(families)
        places = enumerate(self.users)
        drafts = [self._window(epoch, user, family(place, epoch)) for place, user in places for family in tasks]
        examples = self.complete(drafts)
        if SEARCH in families:
            examples += [self._search(epoch, item) for item in range(len(self.catalogue))]
        if CHAT in families:
            examples += self._chat(epoch, round(self.config.chat_ratio * len(examples)))
        return examples

    def _user_tasks(self, families: Collection[str]) -> list[Callable[[int, int], str]]:
        # Turns by epoch and place in self.users give the halves and thirds of Table 7 exactly, up to the remainder.
        return [
            partial(_turn, tasks)
            for family, tasks in known_families().items()
            if family in families and family not in (SEARCH, CHAT)
        ]

    def _window(self, epoch: int, user: int, task: str, item_counts: tuple[int, int] | None = None) -> Draft:
        """Draw a random window of the user's training items: target at t, history [start, t) (spec section 2)."""
        rng = generator(self.seed, epoch, user, task)
        items = self.sequences.train(user)
        end = int(rng.integers(1, len(items)))
        start = int(rng.integers(max(0, end - self.sequences.history_length), end))
        low, high = item_counts or (self.config.item_count_min, self.config.item_count_max)
        item_count = int(rng.integers(low, high + 1))
        proportion = int(rng.choice(self.config.proportions)) if templates.takes_percent(task) else None
        selects = bool(rng.random() < self.config.candidate_share) and templates.has_selection_form(task)
        history = tuple(items[start:end].tolist())
        blending = self._blending(epoch, user, task)
        return Draft(task, user, history, int(items[end]), item_count, proportion, selects, rng, blending=blending)

    def _blending(self, epoch: int, user: int, task: str) -> Blending | None:
        """Return how a sample with a control becomes a blend; None for the share that keeps its one condition."""
        control = control_of(task)
        if control is None or not self.config.blend_share:
            return None
        rng = generator(self.seed, epoch, user, task, blended=True)
        if rng.random() >= self.config.blend_share:
            return None
        return Blending(rng, self._blended, kind_of(control))

    def _search(self, epoch: int, item: int) -> Example:
        """K random items of a category of ``item`` (or outside one it is not in), ``item`` among them (I3)."""
        rng = generator(self.seed, epoch, item, SEARCH)
        largest = self.config.search_item_count_max or self.config.item_count_max
        k = int(rng.integers(self.config.item_count_min, largest + 1))
        own = self.catalogue.membership[:, item]
        negative = bool(rng.random() < self.config.search_negative_share) and not own.all()
        category = self.catalogue.category_names[int(rng.choice(np.flatnonzero(~own if negative else own)))]
        inside, outside = self._sides(category)
        obeying, breaking = (outside, inside) if negative else (inside, outside)
        labels = rng.permutation(np.append(obeying.draw(rng, k - 1, but=item), item)).tolist()
        phrasing = int(rng.integers(templates.INTENTIONS))
        candidates = None
        if rng.random() < self.config.candidate_share:
            # Distractors break the intention: an answer from outside the labels would not comply.
            candidates = self._candidates(labels, breaking, rng)

        def render(shown: Sequence[int] | None) -> str:
            titles = None if shown is None else [self.catalogue.titles[index] for index in shown]
            return self.wording(
                SEARCH, len(labels), category=category, negative=negative, phrasing=phrasing, candidates=titles
            )

        _, candidates, messages = self._fit(SEARCH, (), candidates, labels, lambda _, shown: render(shown), "")
        instruction = Instruction(SEARCH, None, (), None, len(labels), category, None, candidates, messages)
        return Example(instruction, self._answer(labels), tuple(labels), (None,) * len(labels))

    def _chat(self, epoch: int, count: int) -> list[Example]:
        def fits(messages: Messages, response: str) -> bool:
            if (messages, response) in self._long_chat:
                return False
            fit = (
                self.limit.prompt_tokens(messages) <= self.limit.max_prompt
                and self.limit.text_tokens([response])[0] < self.limit.max_response
            )
            if not fit:  # it will be drawn again
                self._long_chat.add((messages, response))
            return fit

        examples = []
        for index in range(count):
            rng = generator(self.seed, epoch, index, CHAT)
            turns = (chat.draw(self.dialogues, rng, fits) for _ in range(_CHAT_DRAWS))
            drawn = next((turn for turn in turns if turn is not None), None)
            if drawn is not None:
                messages, response = drawn
                instruction = Instruction(CHAT, None, (), None, 0, None, None, None, messages)
                examples.append(Example(instruction, response, (), ()))
        if len(examples) < count and not self._told_of_long_chat:
            self._told_of_long_chat = True
            log.warning(
                "%-12s %d of %d examples of an epoch are missing: hardly a turn has a prompt of at most %d tokens and "
                "an answer of less than %d; give shorter dialogues, or raise model.max_length",
                "chat", count - len(examples), count, self.limit.max_prompt, self.limit.max_response,
            )  # fmt: skip
        return examples

    # ------------------------------------------------------------------ validation, RL

    def validation(self) -> list[Example]:
        """I0, I1+, I1- and I2 about 50% (Section 3.1.1), on the validation item of a fixed random sample of users."""
        asked = [
            (control.task, percent)
            for control in controls()
            if control.family in self.families
            for percent in control.validation
        ]
        return self.complete(self._validation_drafts([(SEQUENTIAL, None), *asked]))

    def validation_questions(self) -> list[Instruction]:
        """Return what the test settings of ten items ask, about the validation item of the validation users."""
        asked = [
            (control.task, percent)
            for control in controls()
            if control.family in self.families
            for percent in control.settings.values()
        ]
        drafts = self._validation_drafts([(SEQUENTIAL, None), *asked], fixed_count=True)
        return [example.instruction for example in self.complete(drafts)]

    def _validation_drafts(self, asked: Iterable[tuple[str, int | None]], fixed_count: bool = False) -> list[Draft]:
        everyone = self.sequences.validated
        users = np.random.default_rng([self.seed, 1]).permutation(everyone)[: self.config.validation_size]
        drafts = []
        for task, proportion in asked:
            for user in sorted(users.tolist()):
                history, target = self.sequences.validation(user)
                rng = generator(self.seed, _VALIDATION_EPOCH, user, task)
                shown, count = tuple(history.tolist()), self.config.item_count_max
                drafts.append(Draft(task, user, shown, target, count, proportion, False, rng, True, fixed_count))
        return drafts

    def rollout_prompts(self, iteration: int, count: int, item_counts: tuple[int, int]) -> list[Instruction]:
        """Return RL prompts: a third each of I0, I1 and I2, windows as in training; families of one's own beside them.

        All are in the free form (spec section 3): no table asks the form that selects from candidates.

        Args:
            iteration: from 0; decides the prompts together with the seed.
            count: number of prompts.
            item_counts: smallest and largest k.
        """
        tasks = self._user_tasks(self.families)
        drafts = []
        for index in range(iteration * count, (iteration + 1) * count):
            turn, within = divmod(index, len(self.users) * len(tasks))
            order = np.random.default_rng([self.seed, 2, turn]).permutation(len(self.users) * len(tasks))
            place, family = divmod(int(order[within]), len(tasks))
            task = tasks[family](place, turn)
            draft = self._window(_ROLLOUT_EPOCH + turn, self.users[place], task, item_counts)
            drafts.append(replace(draft, selects=False))
        return [example.instruction for example in self.complete(drafts)]

    # ------------------------------------------------------------------ evaluation

    def question(
        self,
        task: str,
        user: int,
        item_count: int,
        proportion: int | None,
        suffix: str = "",
        selection: bool = False,
    ) -> Draft:
        """Return the test question of one user (spec section 7), to be settled by :meth:`complete`.

        With ``selection`` it gives candidates if the listings have a form that does: the target, the teacher's best
        that obey, and random items, as in training.
        """
        history, target = self.sequences.test(user)
        rng = generator(self.seed, _EVALUATION_EPOCH, user, task)
        shown = tuple(history.tolist())
        selects = selection and templates.has_selection_form(task)
        return Draft(task, user, shown, target, item_count, proportion, selects, rng, True, True, suffix)

    def blended_question(self, user: int, item_count: int, count: int, unseen: bool, suffix: str = "") -> Draft:
        """Return a test question of several conditions (spec section 12), to be settled by :meth:`complete`.

        Args:
            user: position in the sequences.
            item_count: k.
            count: number of conditions.
            unseen: whether their kinds are a pair that training never shows together.
            suffix: text appended to the prompt.
        """
        history, target = self.sequences.test(user)
        rng = generator(self.seed, _EVALUATION_EPOCH + 2 * count + unseen, user, BLEND)
        # The kinds of the paper alone, so that every row of a table is asked the same.
        blending = Blending(rng, _kinds(PAPER_FAMILIES), None, count, unseen)
        shown = tuple(history.tolist())
        return Draft(BLEND, user, shown, target, item_count, None, False, rng, True, True, suffix, blending)
