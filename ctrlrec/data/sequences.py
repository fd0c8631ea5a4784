"""Users' items in time order, split by leaving the last two out."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.files import write_jsonl

MIN_SEQUENCE = 3  # one item to train on, one to validate, one to test


@dataclass(frozen=True)
class Sequences:
    """Item sequences of all users in compressed rows.

    Attributes:
        users: ids of the source.
        offsets: (n_users + 1,) int64; user u owns ``items[offsets[u]:offsets[u + 1]]``.
        items: int32 catalogue indices in time order.
        history_length: most items a history shows.
    """

    users: tuple[str, ...]
    offsets: np.ndarray
    items: np.ndarray
    history_length: int

    def __len__(self) -> int:
        return len(self.users)

    def _all(self, user: int) -> np.ndarray:
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def train(self, user: int) -> np.ndarray:
        """Return all items but the last two; nothing else may be trained on."""
        return self._all(user)[:-2]

    def validation(self, user: int) -> tuple[np.ndarray, int]:
        """Return the history before the last but one item, and that item."""
        items = self._all(user)
        return items[:-2][-self.history_length :], int(items[-2])

    def test(self, user: int) -> tuple[np.ndarray, int]:
        """Return the history before the last item, and that item."""
        items = self._all(user)
        return items[:-1][-self.history_length :], int(items[-1])

    def save(self, path: Path, catalogue: Catalogue) -> None:
        """Write ``sequences.jsonl`` (spec section 9)."""
        titles = catalogue.titles
        rows = ([titles[item] for item in self._all(user)] for user in range(len(self.users)))
        write_jsonl(path, ({"user": name, "items": row} for name, row in zip(self.users, rows, strict=True)))

    @classmethod
    def load(cls, path: Path, catalogue: Catalogue, history_length: int) -> "Sequences":
        """Read ``sequences.jsonl``.

        Raises:
            CtrlRecError: for a line that is not a user, or a title the catalogue does not have.
        """
        users, offsets, items = [], [0], []
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    users.append(row["user"])
                    items += [catalogue.title_index[title] for title in row["items"]]
                except (ValueError, KeyError, TypeError) as error:
                    raise CtrlRecError(
                        f"{path}:{number}: not a user with titles of the catalogue ({error}); make the data stage again"
                    ) from None
                offsets.append(len(items))
        return cls(tuple(users), np.asarray(offsets, np.int64), np.asarray(items, np.int32), history_length)
