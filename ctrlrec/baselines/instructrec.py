"""The row ``instructrec``: *Recommendation as Instruction Following* (Zhang et al., 2023).

From its paper: an instruction is put together from a preference (none, the history, or one in words), an intention
(none, vague or specific) and a task form (pointwise, pairwise, matching, reranking), some are turned around to ask for
the intention or the preference; the model writes one item, and beam search gives the top k. Its backbone is Flan-T5-XL:
``variant=instructrec model=flan_t5_xl``. Any other backbone takes the instructions and the beams too.

What differs from its paper: preferences and intentions in words come from categories, the most frequent ones of the
history and the broadest and the most specific one of the target, because most datasets have no reviews that a large
model could put them down from; this gives the 35 :data:`KINDS` instead of 39 templates; there are no instructions with
reasoning steps; candidates are random items, without a user such as are not in the category wanted. What the tables
ask and its training does not (no items of a category, a proportion) is put where the intention stands. The list of k
items is never asked for in words.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from peft import PeftModel
from transformers import PreTrainedModel

from ctrlrec.controls.instruction import Condition, Example, Instruction
from ctrlrec.controls.kinds.positive import CONTROL as POSITIVE
from ctrlrec.controls.registry import SEARCH, SEQUENTIAL
from ctrlrec.generation.beams import beam_search
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.instructions.builder import InstructionBuilder, generator
from ctrlrec.instructions.pools import Pool
from ctrlrec.instructions.templates import answer, quoted
from ctrlrec.lm.chat_format import ChatFormat

_FAVOURITES = 3  # categories that say a preference in words


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of instruction; the names are those of ``instructrec.yaml``."""

    preference: str
    intention: str
    form: str

    @property
    def family(self) -> str:
        """Sequential recommendation, personalised search (a category is wanted) or search without a user."""
        if self.preference == "none":
            return SEARCH
        return SEQUENTIAL if self.intention == "none" and self.form != "wish" else POSITIVE.family


KINDS: tuple[Kind, ...] = (
    *(
        Kind(preference, intention, form)
        for preference in ("none", "implicit", "explicit")
        for intention in ("none", "vague", "specific")
        for form in ("pointwise", "pairwise", "matching", "reranking")
        if (preference, intention) != ("none", "none")
    ),
    # turned around
    Kind("none", "none", "wish"),
    Kind("implicit", "none", "wish"),
    Kind("implicit", "none", "taste"),
)


@cache
def _wording() -> dict[str, Any]:
    text = resources.files("ctrlrec.baselines").joinpath("instructrec.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def _family(task: str) -> str:
    return POSITIVE.family if task == POSITIVE.task else task


def _sentences(parts: Sequence[str], **values: str) -> str:
    return " ".join(part.format_map(values) for part in parts if part)


def prompt(
    task: str,
    item_count: int,
    history: Sequence[str] = (),
    category: str | None = None,
    proportion: int | None = None,
    negative: bool = False,
    phrasing: int = 0,
    candidates: Sequence[str] | None = None,
    blend: Sequence[tuple[Condition, int]] = (),
) -> str:
    """Return what evaluation asks, in this row's words; the arguments are those of the other rows' wording.

    ``item_count``, ``negative`` and ``phrasing`` have no part in it: the number of items is the number of beams.
    """
    wording = _wording()
    form = wording["form"]["matching" if candidates is None else "reranking"]
    intentions = [_intention(each.control.task, each.category, each.proportion) for each, _ in blend]
    intentions = intentions or [_intention(task, category, proportion)]
    return " ".join(
        part
        for part in (
            _sentences([wording["preference"]["implicit"]], history=quoted(history)),
            *intentions,
            _sentences([form], candidates=quoted(candidates or ())),
        )
        if part
    )


def _intention(task: str, category: str | None, proportion: int | None) -> str:
    wording = _wording()
    if task == SEQUENTIAL:
        said = wording["intention"]["none"]
    elif task == POSITIVE.task:
        said = wording["intention"]["specific"]
    else:
        said = wording["untrained"][task]
    return _sentences([said], category=category or "", proportion=str(proportion))


class InstructRecInstructions(InstructionBuilder):
    """Instructions whose answer is one title, a yes or no, or categories."""

    wording: Callable[..., str] = staticmethod(prompt)

    def epoch(self, epoch: int, families: Collection[str]) -> list[Example]:
        """Return one sample per user and family with a user, one per item of search, of a random kind of the family."""
        kinds = {family: [kind for kind in KINDS if kind.family == family] for family in families}
        examples = []
        for task in (SEQUENTIAL, POSITIVE.task):
            for user in self.users if kinds.get(_family(task)) else ():
                draft = self._window(epoch, user, task)
                kind = kinds[_family(task)][int(draft.rng.integers(len(kinds[_family(task)])))]
                name = self.sequences.users[user]
                examples.append(self._instruct(kind, task, name, draft.history, draft.target, draft.rng))
        for item in range(len(self.catalogue)) if kinds.get(SEARCH) else ():
            rng = generator(self.seed, epoch, item, SEARCH)
            kind = kinds[SEARCH][int(rng.integers(len(kinds[SEARCH])))]
            examples.append(self._instruct(kind, SEARCH, None, (), item, rng))
        return examples

    def validation(self) -> list[Example]:
        """Return matching with and without a wanted category, on the validation items of a fixed sample of users."""
        kinds = {
            SEQUENTIAL: Kind("implicit", "none", "matching"),
            POSITIVE.task: Kind("implicit", "specific", "matching"),
        }
        return [
            self._instruct(
                kinds[draft.task],
                draft.task,
                self.sequences.users[draft.user],
                draft.history,
                draft.target,
                draft.rng,
            )
            for draft in self._validation_drafts([(task, None) for task in kinds])
        ]

    def _instruct(
        self,
        kind: Kind,
        task: str,
        user: str | None,
        history: tuple[int, ...],
        target: int,
        rng: np.random.Generator,
    ) -> Example:
        titles, wording = self.catalogue.titles, _wording()
        parts = tuple(wording[part][getattr(kind, part)] for part in ("preference", "intention", "form"))
        favourites = quoted(self._favourites(history))
        category = self._wanted(kind.intention, target)
        # Nothing but the intention tells the target from what is shown beside it if no user is known.
        asked = category if kind.preference == "none" else None
        candidates = self._shown(kind.form, history, target, asked, rng)

        def render(kept: Sequence[int], offered: Sequence[int] | None) -> str:
            return _sentences(
                parts,
                history=quoted([titles[item] for item in kept]),
                favourites=favourites,
                category=category or "",
                candidates=quoted([titles[item] for item in offered or ()]),
            )

        # Only a long list may lose members: what the other forms show is the question.
        fixed = (target,) if kind.form == "reranking" else (candidates or ())
        shown = history if kind.preference == "implicit" else ()
        shown, candidates, messages = self._fit(task, shown, candidates, fixed, render, "", keep_form=True)
        instruction = Instruction(task, user, shown, target, 1, category, None, candidates, messages)
        if kind.form == "pointwise":
            return Example(instruction, "yes" if candidates == (target,) else "no", (), ())
        if kind.form in ("wish", "taste"):
            wanted = self.catalogue.target_categories[target] if kind.form == "wish" else favourites
            return Example(instruction, wanted, (), ())
        return Example(instruction, titles[target], (target,), (None,))

    def _favourites(self, history: Sequence[int]) -> list[str]:
        """Return the most frequent target categories of the history, in order of name among equals."""
        counts = Counter(self.catalogue.target_categories[item] for item in history)
        return sorted(counts, key=lambda name: (-counts[name], name))[:_FAVOURITES]

    def _wanted(self, intention: str, target: int) -> str | None:
        """Return the category of an intention: the target's largest if vague, its target category if specific."""
        if intention == "none":
            return None
        if intention == "specific":
            return self.catalogue.target_categories[target]
        index, sizes = self.catalogue.category_index, self.catalogue.category_sizes
        return max(self.catalogue.categories[target], key=lambda name: (sizes[index[name]], name))

    def _shown(
        self, form: str, history: Sequence[int], target: int, asked: str | None, rng: np.random.Generator
    ) -> tuple[int, ...] | None:
        """Return the items that a form shows; half of the pointwise forms lack the target.

        The others are not in the category ``asked``, where the catalogue has such.
        """
        if form in ("matching", "taste"):
            return None
        if form == "wish":
            return (target,)
        others = self._sides(asked)[1] if asked is not None else None  # without a user no history is to be left out
        if not others:
            others = Pool(np.unique([*history, target]), others_of=len(self.catalogue))
        if form == "reranking":
            return self._candidates([target], others, rng)
        pair = rng.permutation([target, *others.draw(rng, 1).tolist()]).tolist()
        return tuple(pair[:1] if form == "pointwise" else pair)

    def _overhead(self, *_: object) -> int:
        """Return a bound that no prompt reaches: forms differ too much, so every prompt's tokens are counted."""
        return self.limit.max_prompt + 1


def beam_lists(
    model: PreTrainedModel | PeftModel,
    chat_format: ChatFormat,
    prompts: Sequence[Sequence[int]],
    item_counts: Sequence[int],
    max_new_tokens: int,
    batch_size: int,
    progress: Callable[[int], None] = lambda _: None,
    constraint: Constraint | None = None,
    starts: Sequence[Any] = (),
) -> list[str]:
    """Return answers whose k items are the k best beams of each prompt, one title each, in the form of other answers.

    Args:
        model: in evaluation mode.
        chat_format: of the model.
        prompts: B rows of ids.
        item_counts: B numbers of items.
        max_new_tokens: longest title.
        batch_size: sequences searched at once, all beams together.
        progress: called with the number of prompts done.
        constraint: what may be written; None for anything.
        starts: B states of the constraint before an answer.
    """
    lists = [""] * len(prompts)
    for beams in sorted(set(item_counts)):
        rows = [row for row, count in enumerate(item_counts) if count == beams]
        rows.sort(key=lambda row: len(prompts[row]))
        step = max(1, batch_size // beams)
        for begin in range(0, len(rows), step):
            chunk = rows[begin : begin + step]
            states = [starts[row] for row in chunk] if constraint is not None else []
            asked = [prompts[row] for row in chunk]
            found = beam_search(model, chat_format, asked, max_new_tokens, beams, constraint, states)
            for row, answers in zip(chunk, found, strict=True):
                lists[row] = answer([chat_format.decode(tokens).replace("\n", " ").strip() for tokens in answers])
            progress(len(chunk))
    return lists
