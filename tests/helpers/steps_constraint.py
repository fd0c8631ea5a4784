"""A constraint as a user would add it: one file in a plug-in folder."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.generation.constraints import make_constraint
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.lm.chat_format import ChatFormat

STEPS = '''
"""Ids that leave the rest k at the k-th token, a line break as every third, and the end after k + 6 tokens."""

from typing import NamedTuple

from ctrlrec.generation.constraints.base import Constraint


class Written(NamedTuple):
    rest: int
    tokens: int


class Steps(Constraint):
    def start(self, instruction):
        return None if instruction.item_count == 0 else Written(instruction.item_count, 0)

    def allowed(self, state):
        if state.tokens == state.rest + 6:
            return [self.chat_format.end]
        if state.tokens % 3 == 2:
            return self.chat_format.contents(["\\n"])[0]
        if state.rest == 5 and state.tokens == 4:
            return []
        return range(10 + (state.rest + state.tokens) % 7, 500, 7)

    def advance(self, state, token):
        return Written(state.rest, state.tokens + 1)


CONSTRAINT = Steps
'''


@contextmanager
def plugged_in(folder: Path, catalogue: Catalogue, chat_format: ChatFormat) -> Iterator[Constraint]:
    """Write the plug-in, name its folder in the environment and make the constraint."""
    home = folder / "plugin" / "generation" / "constraints"
    home.mkdir(parents=True)
    (home / "steps.py").write_text(STEPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTRLREC_PLUGINS", str(folder / "plugin"))
        made = make_constraint(ConstraintConfig("steps"), catalogue, chat_format)
        assert made is not None
        yield made
    del sys.modules["ctrlrec.generation.constraints.steps"]


def asking(count: int) -> Instruction:
    return Instruction("chat" if count == 0 else "search", None, (), None, count, None, None, None, ())
