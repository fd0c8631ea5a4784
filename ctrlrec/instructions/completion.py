"""Settles questions: which category is asked for, which items answer, in which words, at which length.

A draft goes in, an instruction with its labels comes out. Everything is decided by the draft's own generator.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ctrlrec.config.compose import typed
from ctrlrec.config.schema import CategorySampling, InstructionsConfig
from ctrlrec.controls.blends import MOST
from ctrlrec.controls.instruction import Condition, Example, Instruction, Messages
from ctrlrec.controls.registry import BLEND, SEQUENTIAL, control_of, controls
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.errors import CtrlRecError
from ctrlrec.instructions import templates
from ctrlrec.instructions.blends import draw_blend
from ctrlrec.instructions.drafts import Draft
from ctrlrec.instructions.labels import Demand, answers, negative_categories, settle
from ctrlrec.instructions.pools import Pool
from ctrlrec.lm.chat_format import PromptLimit
from ctrlrec.teacher.ranker import Ranker


def _opposes(task: str) -> bool:
    control = control_of(task)
    return control is not None and control.opposes


class Completion:
    """Completes drafts over one data set, teacher and prompt format.

    Attributes:
        wording: as :func:`ctrlrec.instructions.templates.prompt`; a baseline with its own words replaces it.
    """

    wording: Callable[..., str] = staticmethod(templates.prompt)

    def __init__(
        self, catalogue: Catalogue, sequences: Sequences, ranker: Ranker, config: InstructionsConfig, limit: PromptLimit
    ):
        self.catalogue, self.sequences, self.ranker = catalogue, sequences, ranker
        self.config, self.limit = typed(config), limit
        self._quoted_tokens = np.asarray(limit.text_tokens([f" '{title}'," for title in catalogue.titles]))
        names = catalogue.category_names
        self._longest_category = names[int(np.argmax(limit.text_tokens(list(names))))]
        self._pools: dict[str, tuple[Pool, Pool]] = {}
        self._overheads: dict[tuple[str, bool, str], int] = {}

    def complete(self, drafts: Sequence[Draft]) -> list[Example]:
        """Settle categories, labels and wording.

        A draft for which no category or no blend can be asked is left out: the ground truth has every category, or no
        list meets all conditions. If a prompt has no
        room for the whole history, the labels are those after the history shown.
        """
        examples: list[Example] = []
        for begin in range(0, len(drafts), self.ranker.at_once):
            chunk = list(drafts[begin : begin + self.ranker.at_once])
            states = [draft.states() for draft in chunk]
            found = self._complete(chunk)
            # The same draws again. Other labels may need another prompt; a history only gets shorter, so this ends.
            while cut := [
                row
                for row, example in enumerate(found)
                if example is not None and example.instruction.history != chunk[row].history
            ]:
                for row in cut:
                    chunk[row].rewind(states[row])
                    chunk[row] = replace(chunk[row], history=found[row].instruction.history)  # type: ignore[union-attr]
                for row, example in zip(cut, self._complete([chunk[row] for row in cut]), strict=True):
                    found[row] = example
            examples += [example for example in found if example is not None]
        return examples

    def _complete(self, drafts: Sequence[Draft]) -> list[Example | None]:
        """Return an example of each draft, None if no category can be asked."""
        scores = self.ranker.scores([draft.history for draft in drafts]).cpu()
        examples = self._blends(drafts, scores)
        single = [row for row, draft in enumerate(drafts) if examples[row] is None and draft.task != BLEND]
        against = [row for row in single if _opposes(drafts[row].task)]
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
        for row in single:
            draft = drafts[row]
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
        if kept:
            targets = [drafts[row].target for row in kept]
            labels, ranks = answers(self.catalogue, scores[kept], targets, demands)
            for row, demand, items, places in zip(kept, demands, labels, ranks, strict=True):
                examples[row] = self._example(drafts[row], demand, items, places)
        return examples

    def _blends(self, drafts: Sequence[Draft], scores: torch.Tensor) -> list[Example | None]:
        """Return an example of each draft that becomes a blend, None for every other."""
        examples: list[Example | None] = [None] * len(drafts)
        rows = [row for row, draft in enumerate(drafts) if draft.blending is not None]
        if not rows:
            return examples
        orders = scores[rows].argsort(dim=1, descending=True, stable=True).numpy()
        counts = (scores[rows] > -torch.inf).sum(1).tolist()
        for row, order, count in zip(rows, orders, counts, strict=True):
            draft, best = drafts[row], order[:count]
            found = draw_blend(draft, scores[row].numpy(), best, self.catalogue, self.config)
            if found is not None and draft.blending is not None:
                conditions, items = found
                ranks = np.empty(len(self.catalogue), dtype=int)
                ranks[best] = np.arange(count)
                # Listing 3 has no form that selects from candidates, and a blend has none either.
                asked = replace(draft, task=BLEND, proportion=None, selects=False, rng=draft.blending.rng)
                demand = Demand(len(items), None, 0, draft.target in items)
                examples[row] = self._example(asked, demand, items, tuple(ranks[list(items)].tolist()), conditions)
        return examples

    def _categories(self, draft: Draft, largest: str | None, uniform: bool) -> list[str]:
        """Return names in the order to try: the first that can supply an answer is asked for."""
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

    def _example(
        self,
        draft: Draft,
        demand: Demand,
        labels: tuple[int, ...],
        ranks: tuple[int | None, ...],
        conditions: tuple[Condition, ...] = (),
    ) -> Example:
        phrasing = int(draft.rng.integers(templates.INTENTIONS))
        blend = [(condition, int(draft.rng.integers(templates.INTENTIONS))) for condition in conditions]
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
                blend=blend,
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
            conditions,
        )
        return Example(instruction, self._answer(labels), labels, ranks)

    def _answer(self, labels: Iterable[int]) -> str:
        return templates.answer([self.catalogue.titles[item] for item in labels])

    def _sides(self, category: str) -> tuple[Pool, Pool]:
        """Return the items of a category, and all others."""
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
            CtrlRecError: if the instruction alone is too long.
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
        """Return tokens of a prompt without titles, with the longest category name and some slack for merges."""
        key = (task, selects, suffix)
        if key not in self._overheads:
            proportion = 100 if templates.takes_percent(task) else None
            blend = self._longest_blend() if task == BLEND else ()
            text = self.wording(
                task, 10, [], self._longest_category, proportion, candidates=[] if selects else None, blend=blend
            )
            self._overheads[key] = self.limit.prompt_tokens(self._messages(text + suffix)) + 32
        return self._overheads[key]

    def _longest_blend(self) -> list[tuple[Condition, int]]:
        """Return more words than any blend has: every control once, then as many of the longest as a blend may have."""
        said = [
            (Condition(control, self._longest_category, 100 if control.takes_percent else None), phrasing)
            for control in controls()
            for phrasing in range(templates.INTENTIONS)
        ]
        sentences = [condition.control.sentence(condition.category, 100, number) for condition, number in said]
        longest = said[int(np.argmax(self.limit.text_tokens(sentences)))]
        return said[:: templates.INTENTIONS] + [longest] * MOST

    def _messages(self, text: str) -> Messages:
        system = (("system", self.limit.system_prompt),) if self.limit.system_prompt else ()
        return (*system, ("user", text))
