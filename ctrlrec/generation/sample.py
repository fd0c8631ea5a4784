"""One answer of an engine."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of a model.

    Attributes:
        tokens: generated ids, with the token that ended the answer if there was one; empty if a server answered.
        log_probs: log-probability of each at the sampling temperature over the full vocabulary, or over the tokens that
            a constraint allowed; a greedy choice has 0.
        text: of an answer of a server; None if the tokens are the answer.
    """

    tokens: list[int]
    log_probs: list[float]
    text: str | None = None


def answer_length(tokens: Sequence[int], ends: Collection[int]) -> int:
    """Return the number of tokens up to the first that ends the answer; of all if none does."""
    return next((index for index, token in enumerate(tokens, start=1) if token in ends), len(tokens))
