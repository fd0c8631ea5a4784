"""Arbitrary catalogues, questions and untrained models, for what holds of every constrained list."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from answering import generate
from hypothesis import strategies as st
from transformers import PreTrainedModel

from ctrlrec.config.schema import ConstraintConfig, ModelConfig
from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.controls.registry import BLEND, CONTROLS, SEQUENTIAL
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.instructions import templates
from ctrlrec.lm.backbone import load_model, train_tokenizer
from ctrlrec.lm.chat_format import ChatFormat
from ctrlrec.lm.parsing import written_items

CATEGORIES = ("Comedy", "Drama", "Horror")
KINDS = ("positive", "negative", "at_most", "at_least", "about")
# Titles that begin like others, that share all but one token, and what few tokenizers contain.
_FAMILIES = (
    ("A", "AB", "ABC", "A B", "A B C", "A, B"),
    ("The Long Way Home 1", "The Long Way Home 2", "The Long Way Home 3", "The Long Way Home"),
    ("🎬", "🎬🎬", "🎭 Ran", "千と千尋", "é", "Été"),
    ("7", "71", "1. 7", "'Til", "Alien", "Aliens", "Alien³", "8 1/2", "Who?", "(x)"),
)
TITLES = tuple(title for family in _FAMILIES for title in family)


@dataclass(frozen=True)
class World:
    """A catalogue with its tokenizer and an untrained model."""

    catalogue: Catalogue
    chat_format: ChatFormat
    model: PreTrainedModel

    def constraint(self, name: str) -> Constraint:
        made = make_constraint(ConstraintConfig(name), self.catalogue, self.chat_format)
        assert made is not None
        return made

    def answers(
        self, constraint: Constraint, asked: list[Instruction], temperature: float | None = None, engine: str = "auto"
    ) -> list[list[int]]:
        prompts = self.chat_format.prompts([(("user", f"list {place}"),) for place in range(len(asked))])
        limit = self.chat_format.config.max_response_length
        made = generate(
            self.model, self.chat_format, prompts, limit, engine, temperature, constraint=constraint, asked=asked
        )
        return [sample.tokens for sample in made]

    def items(self, tokens: list[int]) -> list[int | None]:
        """The catalogue items of an answer, read as evaluation and rewards read it."""
        assert tokens[-1] == self.chat_format.end
        titles = [item.title for item in written_items(self.chat_format.decode(tokens))]
        return [self.catalogue.answer_index.get(title) for title in titles]


@st.composite
def catalogues(draw: st.DrawFn, most: int = 14) -> Catalogue:
    titles = tuple(draw(st.lists(st.sampled_from(TITLES), min_size=1, max_size=most, unique=True)))
    some = st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=2, unique=True).map(tuple)
    categories = tuple(draw(some) for _ in titles)
    firsts = tuple(names[0] for names in categories)
    return Catalogue(tuple(f"i{item}" for item in range(len(titles))), titles, categories, firsts, (1,) * len(titles))


@st.composite
def worlds(draw: st.DrawFn, config: ModelConfig, cache: str) -> World:
    catalogue = draw(catalogues())
    tokenizer = train_tokenizer(templates.specimens(catalogue.titles, CATEGORIES), draw(st.sampled_from([300, 512])))
    model = load_model(config, Path(cache), tokenizer, draw(st.integers(0, 99)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(6)
    return World(catalogue, ChatFormat(tokenizer, config), model.eval())


@st.composite
def questions(draw: st.DrawFn, catalogue: Catalogue, conditions: int = 0) -> Instruction:
    """A demand for at most as many items as are left, often for all of them; with conditions, perhaps impossible."""
    everything = range(len(catalogue))
    history = tuple(draw(st.lists(st.sampled_from(everything), max_size=len(catalogue) - 1, unique=True)))
    left = len(catalogue) - len(history)
    count = draw(st.one_of(st.just(left), st.integers(1, left)))
    asked = Instruction(SEQUENTIAL, "u", history, None, count, None, None, None, ())
    if not conditions:
        offered = draw(st.booleans())
        return replace(asked, candidates=tuple(everything[::-1])) if offered else asked
    known = [name for name in CATEGORIES if name in catalogue.category_index]
    wishes = []
    for _ in range(draw(st.integers(1, conditions))):
        control = CONTROLS[draw(st.sampled_from(KINDS))]
        percent = draw(st.sampled_from([10, 20, 30, 50, 70])) if control.takes_percent else None
        wishes.append(Condition(control, draw(st.sampled_from(known)), percent))
    return replace(asked, task=BLEND, blend=tuple(wishes))
