"""Sets of items to draw from whose cost hangs on what is drawn and not on the size of the catalogue."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Pool:
    """Items in ascending order: those named or, of a catalogue, all others.

    Attributes:
        named: catalogue indices, ascending, each once.
        others_of: size of the catalogue if the pool is what is not named; None if it is what is named.
    """

    named: np.ndarray
    others_of: int | None = None

    def __len__(self) -> int:
        return len(self.named) if self.others_of is None else self.others_of - len(self.named)

    @cached_property
    def _others_before(self) -> np.ndarray:
        return self.named - np.arange(len(self.named))  # how many that are not named stand before each that is

    def draw(self, rng: np.random.Generator, size: int, but: int | None = None) -> np.ndarray:
        """Return as many different items as asked for, or all there are, in random order.

        Args:
            rng: draws.
            size: items wanted.
            but: an item of the pool that is not to be drawn.
        """
        count = len(self) - (but is not None)
        places = rng.choice(count, size=min(size, count), replace=False) if size and count else np.empty(0, dtype=int)
        if but is not None:
            named_before = np.searchsorted(self.named, but)
            places = places + (places >= (named_before if self.others_of is None else but - named_before))
        if self.others_of is None:
            return self.named[places]
        return places + np.searchsorted(self._others_before, places, side="right")
