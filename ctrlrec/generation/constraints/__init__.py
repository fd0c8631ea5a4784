"""Constraints on what a model may write, one module for each choice of ``constraint.name`` (spec section 11)."""

from collections.abc import Mapping

from ctrlrec.config.choices import Choices
from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.generation.constraints.base import Constraint
from ctrlrec.lm.chat_format import ChatFormat

CONSTRAINTS: Mapping[str, type[Constraint]] = Choices("generation.constraints", "CONSTRAINT")


def make_constraint(settings: ConstraintConfig, catalogue: Catalogue, chat_format: ChatFormat) -> Constraint | None:
    """Return the constraint that a configuration names; None for one that restricts nothing."""
    kind = CONSTRAINTS[settings.name]
    return kind(catalogue, chat_format, settings) if kind.restricts else None
