"""Builds the instruction set of Table 7, the validation set, RL prompts and evaluation questions.

Every sample is a function of (seed, epoch, user, task) alone: each draws from its own counter-based generator, so
neither worker count nor order nor a resumed run changes it.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ctrlrec.config.compose import typed
from ctrlrec.config.schema import CategorySampling, InstructionsConfig
from ctrlrec.controls.instruction import Example, Instruction, Messages
from ctrlrec.controls.registry import CHAT, PAPER_FAMILIES, SEARCH, SEQUENTIAL, control_of, controls, stream_number
from ctrlrec.controls.registry import families as known_families
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions import chat, templates
from ctrlrec.instructions.labels import Demand, answers, negative_categories, settle
from ctrlrec.instructions.pools import Pool
from ctrlrec.lm.chat_format import PromptLimit
from ctrlrec.teacher.ranker import Ranker

log = logging.getLogger(__name__)


_CHAT_DRAWS = 100  # turns to try for one that fits


_VALIDATION_EPOCH, _ROLLOUT_EPOCH, _EVALUATION_EPOCH = 2**32, 2**33, 2**34  # streams that no training epoch reaches


@dataclass(frozen=True, slots=True)
class Draft:
    """A question whose category and answer are still to be settled.

    Attributes:
        task: kind of instruction.
        user: position of the user in the sequences.
        history: catalogue indices, oldest first.
        target: catalogue index of the ground truth.
        item_count: k; lowered where no category can supply it.
        proportion: percent for the proportion tasks.
        selects: whether candidates are given.
        rng: the sample's own generator.
        fixed_category: the evaluation's rule: the target category of the target, or for the negative and at-most
            tasks the largest of the teacher's first k; training draws instead.
        fixed_count: a test question, asked as it is, in its form and even where the catalogue cannot fill it.
        suffix: text appended to the prompt.
    """

    task: str
    user: int
    history: tuple[int, ...]
    target: int
    item_count: int
    proportion: int | None
    selects: bool
    rng: np.random.Generator
    fixed_category: bool = False
    fixed_count: bool = False
    suffix: str = ""


def generator(seed: int, epoch: int, subject: int, task: str) -> np.random.Generator:
    """The generator of one sample, set by (seed, epoch, user or item, task) and nothing else."""
    counter = [0, epoch, subject, stream_number(task)]
    return np.random.Generator(np.random.Philox(key=[seed, 0x6374726C726563], counter=counter))


def _opposes(task: str) -> bool:
    control = control_of(task)
    return control is not None and control.opposes


def _turn(tasks: Sequence[str], place: int, epoch: int) -> str:
    return tasks[(place + epoch) % len(tasks)]


class InstructionBuilder:
    """Turns sequences and a teacher into instructions with labels.

    Attributes:
        wording: as :func:`ctrlrec.instructions.templates.prompt`; a baseline with its own words replaces it.
    """

    wording: Callable[..., str] = staticmethod(templates.prompt)

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
        self.catalogue, self.sequences, self.ranker = catalogue, sequences, ranker
        self.config, self.limit, self.seed = typed(config), limit, seed
        self.families = (*PAPER_FAMILIES, *own_families)
        self.dialogues, self.chat_report = chat.load_dialogues(config.chat_path)
        # A user with one training item has no window: a history of at least one item and a target.
        self.users = [user for user in range(len(sequences)) if len(sequences.train(user)) >= 2]
        self._quoted_tokens = np.asarray(limit.text_tokens([f" '{title}'," for title in catalogue.titles]))
        names = self.catalogue.category_names
        self._longest_category = names[int(np.argmax(limit.text_tokens(list(names))))]
        self._pools: dict[str, tuple[Pool, Pool]] = {}
        self._overheads: dict[tuple[str, bool, str], int] = {}
        self._long_chat: set[tuple[Messages, str]] = set()
        self._told_of_long_chat = False

    # ------------------------------------------------------------------ training

    def epoch(self, epoch: int, families: Collection[str]) -> list[Example]:
        """One epoch of Table 7, in a fixed order (shuffling is the trainer's).

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
        """A random window of the user's training items: target at t, history [start, t) (spec section 2)."""
        rng = generator(self.seed, epoch, user, task)
        items = self.sequences.train(user)
        end = int(rng.integers(1, len(items)))
        start = int(rng.integers(max(0, end - self.sequences.history_length), end))
        low, high = item_counts or (1, self.config.item_count_max)
        item_count = int(rng.integers(low, high + 1))
        proportion = int(rng.choice(self.config.proportions)) if templates.takes_percent(task) else None
        selects = bool(rng.random() < self.config.candidate_share) and templates.has_selection_form(task)
        history = tuple(items[start:end].tolist())
        return Draft(task, user, history, int(items[end]), item_count, proportion, selects, rng)

    def _search(self, epoch: int, item: int) -> Example:
        """K random items of a category of ``item`` (or outside one it is not in), ``item`` among them (I3)."""
        rng = generator(self.seed, epoch, item, SEARCH)
        k = int(rng.integers(1, self.config.item_count_max + 1))
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

    def _validation_drafts(self, asked: Iterable[tuple[str, int | None]]) -> list[Draft]:
        count = min(self.config.validation_size, len(self.sequences))
        users = np.random.default_rng([self.seed, 1]).permutation(len(self.sequences))[:count]
        drafts = []
        for task, proportion in asked:
            for user in sorted(users.tolist()):
                history, target = self.sequences.validation(user)
                rng = generator(self.seed, _VALIDATION_EPOCH, user, task)
                shown = tuple(history.tolist())
                drafts.append(
                    Draft(task, user, shown, target, self.config.item_count_max, proportion, False, rng, True)
                )
        return drafts

    def rollout_prompts(self, iteration: int, count: int, item_counts: tuple[int, int]) -> list[Instruction]:
        """Return RL prompts: a third each of I0, I1 and I2, windows as in training; families of one's own beside them.

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
            drafts.append(self._window(_ROLLOUT_EPOCH + turn, self.users[place], task, item_counts))
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
        """The test question of one user (spec section 7), to be settled by :meth:`complete`.

        With ``selection`` it gives candidates where the listings have a form that does: the target, the teacher's best
        that obey, and random items, as in training.
        """
        history, target = self.sequences.test(user)
        rng = generator(self.seed, _EVALUATION_EPOCH, user, task)
        shown = tuple(history.tolist())
        selects = selection and templates.has_selection_form(task)
        return Draft(task, user, shown, target, item_count, proportion, selects, rng, True, True, suffix)

    # ------------------------------------------------------------------ completion

    def complete(self, drafts: Sequence[Draft]) -> list[Example]:
        """Settle categories, labels and wording.

        A draft for which no category can be asked (the ground truth has every one) is left out. Where a prompt has no
        room for the whole history, the labels are those after the history shown.
        """
        examples: list[Example] = []
        for begin in range(0, len(drafts), self.ranker.at_once):
            chunk = list(drafts[begin : begin + self.ranker.at_once])
            states = [draft.rng.bit_generator.state for draft in chunk]
            found = self._complete(chunk)
            # The same draws again. Other labels may need another prompt; a history only gets shorter, so this ends.
            while cut := [
                row
                for row, example in enumerate(found)
                if example is not None and example.instruction.history != chunk[row].history
            ]:
                for row in cut:
                    chunk[row].rng.bit_generator.state = states[row]
                    chunk[row] = replace(chunk[row], history=found[row].instruction.history)  # type: ignore[union-attr]
                for row, example in zip(cut, self._complete([chunk[row] for row in cut]), strict=True):
                    found[row] = example
            examples += [example for example in found if example is not None]
        return examples

    def _complete(self, drafts: Sequence[Draft]) -> list[Example | None]:
        """An example of each draft, None where no category can be asked."""
        scores = self.ranker.scores([draft.history for draft in drafts]).cpu()
        against = [row for row, draft in enumerate(drafts) if _opposes(draft.task)]
        largest: dict[int, str | None] = {}
        if against and (self.config.category_sampling == CategorySampling.ground_truth or drafts[0].fixed_category):
            found = negative_categories(
                self.catalogue,
                scores[against],
                [drafts[row].target for row in against],
                [drafts[row].item_count for row in against],
            )
            largest = dict(zip(against, found, strict=True))
        kept, demands = [], []
        for row, draft in enumerate(drafts):
            uniform = self.config.category_sampling == CategorySampling.uniform and not draft.fixed_category
            categories = self._categories(draft, largest.get(row), uniform)
            if draft.task != SEQUENTIAL and not categories:
                continue
            demand = settle(
                draft.task,
                draft.item_count,
                draft.proportion,
                categories,
                self.catalogue,
                draft.history,
                draft.target,
                not uniform,
                draft.rng,
            )
            if draft.fixed_count:
                demand = replace(demand, item_count=draft.item_count, category=categories[0] if categories else None)
            if demand.category is not None or draft.task == SEQUENTIAL:
                kept.append(row)
                demands.append(demand)
        examples: list[Example | None] = [None] * len(drafts)
        if kept:
            targets = [drafts[row].target for row in kept]
            labels, ranks = answers(self.catalogue, scores[kept], targets, demands)
            for row, demand, items, places in zip(kept, demands, labels, ranks, strict=True):
                examples[row] = self._example(drafts[row], demand, items, places)
        return examples

    def _categories(self, draft: Draft, largest: str | None, uniform: bool) -> list[str]:
        """Names in the order to try: the first that can supply an answer is asked for."""
        if draft.task == SEQUENTIAL:
            return []
        if uniform:
            names = self.catalogue.category_names
            return [names[index] for index in draft.rng.permutation(len(names))[:32].tolist()]
        if _opposes(draft.task):
            return [largest] if largest is not None else []
        if draft.fixed_category:
            return [self.catalogue.target_categories[draft.target]]
        own = self.catalogue.categories[draft.target]
        return [own[index] for index in draft.rng.permutation(len(own)).tolist()]

    def _example(self, draft: Draft, demand: Demand, labels: tuple[int, ...], ranks: tuple[int | None, ...]) -> Example:
        phrasing = int(draft.rng.integers(templates.INTENTIONS))
        titles = self.catalogue.titles
        candidates = None
        if draft.selects:
            unshown = Pool(np.unique([*draft.history, *labels]), others_of=len(self.catalogue))
            candidates = self._candidates(labels, unshown, draft.rng)

        def render(history: Sequence[int], shown: Sequence[int] | None) -> str:
            text = self.wording(
                draft.task,
                demand.item_count,
                [titles[item] for item in history],
                demand.category,
                draft.proportion,
                phrasing=phrasing,
                candidates=None if shown is None else [titles[item] for item in shown],
            )
            return text + draft.suffix

        history, candidates, messages = self._fit(
            draft.task, draft.history, candidates, labels, render, draft.suffix, keep_form=draft.fixed_count
        )
        instruction = Instruction(
            draft.task,
            self.sequences.users[draft.user],
            history,
            draft.target,
            demand.item_count,
            demand.category,
            draft.proportion,
            candidates,
            messages,
        )
        return Example(instruction, self._answer(labels), labels, ranks)

    def _answer(self, labels: Iterable[int]) -> str:
        return templates.answer([self.catalogue.titles[item] for item in labels])

    def _sides(self, category: str) -> tuple[Pool, Pool]:
        """The items of a category, and all others."""
        if category not in self._pools:
            named = np.flatnonzero(self.catalogue.membership[self.catalogue.category_index[category]])
            self._pools[category] = Pool(named), Pool(named, others_of=len(self.catalogue))
        return self._pools[category]

    def _candidates(self, labels: Sequence[int], pool: Pool, rng: np.random.Generator) -> tuple[int, ...]:
        distractors = pool.draw(rng, max(self.config.candidate_count - len(labels), 0))
        return tuple(rng.permutation(np.concatenate([np.asarray(labels), distractors])).astype(int).tolist())

    def _fit(
        self,
        task: str,
        history: tuple[int, ...],
        candidates: tuple[int, ...] | None,
        labels: Sequence[int],
        render: Callable[[Sequence[int], Sequence[int] | None], str],
        suffix: str,
        keep_form: bool = False,
    ) -> tuple[tuple[int, ...], tuple[int, ...] | None, Messages]:
        """Shorten until the prompt fits: oldest history first, then distractors, never the instruction.

        The newest item of a history stays: without any, there is no preference to ask for nor a rank to judge by. Where
        the labels' titles fill the rest of a prompt, they cannot be chosen from candidates: unless ``keep_form``, they
        are asked for freely.

        Raises:
            CtrlRecError: where the instruction alone is too long.
        """
        whole = history
        while True:
            text = render(history, candidates)
            messages = self._messages(text)
            # Counting tokens of every prompt would cost more than building it; the sum over titles bounds it.
            bound = self._overhead(task, candidates is not None, suffix) + int(
                self._quoted_tokens[[*history, *(candidates or ())]].sum()
            )
            if bound <= self.limit.max_prompt or self.limit.prompt_tokens(messages) <= self.limit.max_prompt:
                return history, candidates, messages
            distractors = [item for item in candidates or () if item not in labels]
            if len(history) > 1:
                history = history[1:]
            elif candidates is not None and distractors:
                candidates = tuple(item for item in candidates if item != distractors[-1])
            elif candidates is not None and not keep_form:
                history, candidates = whole, None
            else:
                raise CtrlRecError(
                    f"the {task} instruction alone is longer than the {self.limit.max_prompt} tokens left for a "
                    "prompt: raise model.max_length or lower model.max_response_length"
                )

    def _overhead(self, task: str, selects: bool, suffix: str) -> int:
        """Tokens of a prompt without titles, with the longest category name and some slack for merges."""
        key = (task, selects, suffix)
        if key not in self._overheads:
            proportion = 100 if templates.takes_percent(task) else None
            text = self.wording(task, 10, [], self._longest_category, proportion, candidates=[] if selects else None)
            self._overheads[key] = self.limit.prompt_tokens(self._messages(text + suffix)) + 32
        return self._overheads[key]

    def _messages(self, text: str) -> Messages:
        system = (("system", self.limit.system_prompt),) if self.limit.system_prompt else ()
        return (*system, ("user", text))
