"""Answers of any engine to bare prompts, in order."""

from collections.abc import Iterator, Sequence
from typing import Any

from ctrlrec.controls.instruction import Instruction
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.generation.engines import Engine, Setup, make_engine
from ctrlrec.generation.engines.base import Prompt, in_order
from ctrlrec.generation.sample import Sample
from ctrlrec.lm.chat_format import ChatFormat


def engine_of(name: str, model: Any, chat_format: ChatFormat, limit: int, **settings: Any) -> Engine:
    return make_engine(name, Setup(chat_format, limit, model, **settings))


def generate(
    model: Any,
    chat_format: ChatFormat,
    prompts: Sequence[list[int]],
    limit: int,
    engine: str,
    temperature: float | None = None,
    samples: int = 1,
    batch_size: int | None = None,
    constraint: Constraint | None = None,
    asked: Sequence[Instruction] = (),
) -> list[Sample]:
    """Return B x samples answers to B prompts; under a constraint ``asked`` are their instructions."""
    questions = [Prompt(row, asked[place] if asked else None) for place, row in enumerate(prompts)]
    with engine_of(engine, model, chat_format, limit, batch_size=batch_size) as made:
        return in_order(made.answers(questions, samples, temperature, constraint))


class Given(Engine):
    """Gives the answers that it was made with, whatever is asked."""

    def __init__(self, chat_format: Any, rows: Sequence[list[int]]):
        super().__init__(Setup(chat_format, max_new_tokens=1))
        self.rows = rows

    def _answers(self, prompts: Any, samples: Any, temperature: Any, constraint: Any) -> Iterator[tuple[int, Sample]]:
        assert len(self.rows) == len(prompts) * samples
        return ((place, Sample(list(row), [0.0] * len(row))) for place, row in enumerate(self.rows))
