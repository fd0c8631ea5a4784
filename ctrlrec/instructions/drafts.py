"""Drafts of instructions, whose category, labels and words are not settled yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrlrec.controls.base import Control


@dataclass(frozen=True, slots=True)
class Blending:
    """How the conditions of a blend are drawn.

    Attributes:
        rng: the blend's own generator.
        controls: what may be asked, by kind.
        own: a kind that is asked in any case; None if all are drawn.
        count: number of conditions; None to draw it.
        unseen: whether the kinds are a pair that training never shows together.
    """

    rng: np.random.Generator
    controls: Mapping[str, Control]
    own: str | None = None
    count: int | None = None
    unseen: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A question whose category and answer are still to be settled.

    Attributes:
        task: kind of instruction.
        user: position of the user in the sequences.
        history: catalogue indices, oldest first.
        target: catalogue index of the ground truth.
        item_count: k; lowered if no category can supply it.
        proportion: percent for the proportion tasks.
        selects: whether candidates are given.
        rng: the sample's own generator.
        fixed_category: the evaluation's rule: the target category of the target, or for the negative and at-most
            tasks the largest of the teacher's first k; training draws instead.
        fixed_count: a test question, asked as it is, in its form, even if the catalogue cannot fill it.
        suffix: text appended to the prompt.
        blending: how it becomes a blend; None for one condition at most. A draft whose task has a control keeps that
            one condition if no blend can be asked.
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
    blending: Blending | None = None

    def states(self) -> list[Any]:
        """Return where the generators stand, for :meth:`rewind`."""
        return [generator.bit_generator.state for generator in self._generators()]

    def rewind(self, states: list[Any]) -> None:
        """Put the generators back to where they stood, so that the same draws follow."""
        for generator, state in zip(self._generators(), states, strict=True):
            generator.bit_generator.state = state

    def _generators(self) -> list[np.random.Generator]:
        return [self.rng, *([self.blending.rng] if self.blending else [])]
