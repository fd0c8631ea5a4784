"""The base of a constraint: the tokens that may follow, the same for the sampler and for the learner."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from ctrlrec.config.schema import ConstraintConfig
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.lm.chat_format import ChatFormat

TokenIds = Sequence[int] | np.ndarray | torch.Tensor  # each token once


class Constraint(ABC):
    """Follows answers token by token and names the tokens that may come next.

    A state stands for one answer so far. States are values: :meth:`advance` returns a new one and leaves the old one as
    it was, because samples of a prompt share their start and beams branch. The state None stands for an answer that is
    free or over; a constraint is never asked about it.

    Attributes:
        restricts: whether it ever rules a token out.
        ends_itself: whether every answer ends within ``limit``, whatever the model.
        limit: tokens of the longest answer; None for no limit.

    Args:
        catalogue: titles and categories.
        chat_format: of the model; its tokens are the ones that are allowed.
        settings: the section ``constraint``.
    """

    restricts: ClassVar[bool] = True
    ends_itself: ClassVar[bool] = False

    def __init__(self, catalogue: Catalogue, chat_format: ChatFormat, settings: ConstraintConfig):
        self.catalogue, self.chat_format, self.settings = catalogue, chat_format, settings
        self.limit: int | None = chat_format.config.max_response_length

    @abstractmethod
    def start(self, instruction: Instruction) -> Any:
        """Return the state before the first token of an answer; None for an answer that is free, such as chat."""

    def alone(self, instruction: Instruction) -> Any:
        """Return the state before an answer that is one title without a number: a row's k best beams are its list."""
        return self.start(instruction)

    @abstractmethod
    def allowed(self, state: Any) -> TokenIds | None:
        """Return the tokens that may come next, the ends of an answer among them if it may end; None for all."""

    @abstractmethod
    def advance(self, state: Any, token: int) -> Any:
        """Return the state after an allowed token that does not end the answer."""

    def follow(self, states: Sequence[Any], tokens: Sequence[int]) -> list[Any]:
        """Return the states of B answers after one more token each; None for those that have ended."""
        ends = self.chat_format.ends
        return [
            None if state is None or token in ends else self.advance(state, token)
            for state, token in zip(states, tokens, strict=True)
        ]

    def forced(self, state: Any, most: int) -> tuple[list[int], Any]:
        """Return the tokens that are forced from a state on, and the state after them.

        Args:
            state: of an answer that has not ended.
            most: tokens to return at most.

        Raises:
            CtrlRecError: for a state in which no token is allowed.
        """
        run: list[int] = []
        while len(run) < most and state is not None:
            choices = self.choices(state)
            if choices is None or len(choices) > 1:
                break
            run.append(int(choices[0]))
            (state,) = self.follow([state], run[-1:])
        return run, state

    def choices(self, state: Any) -> np.ndarray | None:
        """Return the ids of the tokens that may come next; None for all.

        Raises:
            CtrlRecError: if there is none.
        """
        tokens = None if state is None else self.allowed(state)
        if tokens is None:
            return None
        if not len(tokens):
            raise CtrlRecError(
                f"constraint.name={self.settings.name}: no token is allowed in the state {state!r}; the answer "
                "cannot be completed"
            )
        return np.asarray(tokens, np.int64)

    def replay(self, state: Any, tokens: Sequence[int]) -> list[np.ndarray | None]:
        """Return the choices at every place of an answer, up to the first token that is not allowed.

        Args:
            state: before the answer.
            tokens: generated ids.

        Raises:
            CtrlRecError: for a state in which no token is allowed.
        """
        places: list[np.ndarray | None] = []
        for token in tokens:
            choices = self.choices(state)
            if choices is not None and token not in choices:
                break
            places.append(choices)
            (state,) = self.follow([state], [token])
        return places

    def restrict(self, states: Sequence[Any], scores: torch.Tensor) -> torch.Tensor:
        """Return scores (B, V) of the next tokens with the lowest number in place of those not allowed.

        Raises:
            CtrlRecError: for a state in which no token is allowed.
        """
        return restricted(scores, [self.choices(state) for state in states])


def start(constraint: Constraint, instruction: Instruction, beams: bool = False) -> Any:
    """Return the state before an answer, of one title if the row searches beams."""
    return constraint.alone(instruction) if beams else constraint.start(instruction)


class Support:
    """The tokens that were allowed at every place of several answers.

    Attributes:
        forced: (B, T) bool, whether the token at a place was the only one allowed. Its log-probability is 0, and it has
            no part in loss, entropy, KL or whitening.
    """

    def __init__(self, choices: Sequence[Sequence[np.ndarray | None]]):
        self._choices = choices
        self.forced = torch.zeros(len(choices), max(map(len, choices), default=0), dtype=torch.bool)
        for row, places in enumerate(choices):
            for place, tokens in enumerate(places):
                self.forced[row, place] = tokens is not None and len(tokens) == 1

    def restrict(self, rows: torch.Tensor, scores: torch.Tensor, at: slice = slice(None)) -> torch.Tensor:
        """Return scores (n, V) restricted as sampled.

        Args:
            rows: numbers of some answers.
            scores: of their tokens, one answer after the other.
            at: place of the scores among all tokens of these answers.
        """
        return restricted(scores, [tokens for row in rows.tolist() for tokens in self._choices[row]][at])


def support(
    constraint: Constraint | None, instructions: Sequence[Instruction], answers: Sequence[Sequence[int]]
) -> Support | None:
    """Replay a constraint over B answers as they were sampled; None without a constraint.

    Args:
        constraint: the one under which they were sampled.
        instructions: B, one of each answer.
        answers: B rows of generated ids.

    Raises:
        CtrlRecError: if an answer holds a token that the constraint does not allow.
    """
    if constraint is None:
        return None
    choices = []
    for row, (instruction, tokens) in enumerate(zip(instructions, answers, strict=True)):
        places = constraint.replay(constraint.start(instruction), tokens)
        if len(places) < len(tokens):
            raise CtrlRecError(
                f"constraint.name={constraint.settings.name}: token {tokens[len(places)]} at place {len(places)} of "
                f"answer {row} is not allowed; it was not sampled under this constraint"
            )
        choices.append(places)
    return Support(choices)


def restricted(scores: torch.Tensor, choices: Sequence[np.ndarray | None]) -> torch.Tensor:
    """Return scores (N, V) with the lowest finite number if row i is not among ``choices[i]``; None is every token.

    The number is finite, because entropy multiplies it by a probability of 0.
    """
    bound = [row for row, tokens in enumerate(choices) if tokens is not None]
    if not bound:
        return scores
    sets = [tokens for tokens in choices if tokens is not None]
    rows = np.repeat(bound, [len(tokens) for tokens in sets])
    barred = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    barred[torch.as_tensor(bound, device=scores.device)] = True
    columns = np.concatenate(sets, dtype=np.int64)
    barred[torch.as_tensor(rows, device=scores.device), torch.as_tensor(columns, device=scores.device)] = False
    return scores.masked_fill(barred, torch.finfo(scores.dtype).min)
