"""Users' items in time order, split into training, validation and test."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.files import write_jsonl

MIN_SEQUENCE = 3  # one item to train on, one to validate, one to test
NONE = -1  # the place of a validation or test item that a user does not have
_PLACES = ("train", "validation", "test")  # fields of a line that the default split does not need


@dataclass(frozen=True)
class Sequences:
    """Item sequences of all users in compressed rows.

    Attributes:
        users: ids of the source.
        offsets: (n_users + 1,) int64; user u owns ``items[offsets[u]:offsets[u + 1]]``.
        items: int32 catalogue indices in time order.
        history_length: most items a history shows.
        places: (n_users, 3) int64; how many items of a user are trained on, and at which places of the user's items the
            validation and the test item are, ``NONE`` for a user without one. None for leave-one-out.
    """

    users: tuple[str, ...]
    offsets: np.ndarray
    items: np.ndarray
    history_length: int
    places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.users)

    @cached_property
    def _places(self) -> np.ndarray:
        if self.places is not None:
            return self.places
        lengths = np.diff(self.offsets)
        return np.stack([lengths - 2, lengths - 2, lengths - 1], axis=1)

    @property
    def trained(self) -> np.ndarray:
        """Return how many items of each user, the first ones, may be trained on; (n_users,) int64."""
        return self._places[:, 0]

    @property
    def validated(self) -> np.ndarray:
        """Return the positions of the users who have a validation item, ascending."""
        return np.flatnonzero(self._places[:, 1] != NONE)

    @property
    def tested(self) -> np.ndarray:
        """Return the positions of the users who have a test item, ascending."""
        return np.flatnonzero(self._places[:, 2] != NONE)

    @property
    def is_training(self) -> np.ndarray:
        """Return whether each of :attr:`items` may be trained on; bool (n_items,)."""
        lengths = np.diff(self.offsets)
        within = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], lengths)
        return within < np.repeat(self.trained, lengths)

    def of(self, user: int) -> np.ndarray:
        """Return all items of a user, those that are held out included."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def train(self, user: int) -> np.ndarray:
        """Return the items of a user before the split; nothing else may be trained on."""
        return self.of(user)[: self.trained[user]]

    def validation(self, user: int) -> tuple[np.ndarray, int]:
        """Return the history before the validation item of one of :attr:`validated`, and that item."""
        return self._held_out(user, 1)

    def test(self, user: int) -> tuple[np.ndarray, int]:
        """Return the history before the test item of one of :attr:`tested`, and that item."""
        return self._held_out(user, 2)

    def _held_out(self, user: int, which: int) -> tuple[np.ndarray, int]:
        items, place = self.of(user), self._places[user, which]
        assert place != NONE, f"user {self.users[user]} has no {_PLACES[which]} item"
        return items[:place][-self.history_length :], int(items[place])

    def save(self, path: Path, catalogue: Catalogue) -> None:
        """Write ``sequences.jsonl`` (spec section 9), with the places of a split that is not leave-one-out."""
        titles = catalogue.titles
        rows = ({"user": name, "items": [titles[item] for item in self.of(user)]} for user, name in
                enumerate(self.users))  # fmt: skip
        if self.places is None:
            write_jsonl(path, rows)
            return
        places = [[None if place == NONE else place for place in row] for row in self.places.tolist()]
        write_jsonl(path, (row | dict(zip(_PLACES, at, strict=True)) for row, at in zip(rows, places, strict=True)))

    @classmethod
    def load(cls, path: Path, catalogue: Catalogue, history_length: int) -> "Sequences":
        """Read ``sequences.jsonl``.

        Raises:
            CtrlRecError: for a line that is not a user, or a title the catalogue does not have.
        """
        users, offsets, items = [], [0], []
        places: list[list[int]] = []
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    users.append(row["user"])
                    items += [catalogue.title_index[title] for title in row["items"]]
                    if places or "train" in row:
                        places.append([NONE if row[name] is None else int(row[name]) for name in _PLACES])
                except (ValueError, KeyError, TypeError) as error:
                    raise CtrlRecError(
                        f"{path}:{number}: not a user with titles of the catalogue ({error}); make the data stage again"
                    ) from None
                offsets.append(len(items))
        if places and len(places) < len(users):
            raise CtrlRecError(f"{path}:1: no {', '.join(_PLACES)}, which later lines have; make the data stage again")
        split = np.asarray(places, np.int64) if places else None
        return cls(tuple(users), np.asarray(offsets, np.int64), np.asarray(items, np.int32), history_length, split)
