"""Small catalogues, sequences and settings for tests of the teacher."""

import numpy as np

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences

OPTIONS = {  # of every teacher, small
    "sasrec": {"embedding": 16, "layers": 1, "heads": 2, "dropout": 0.1},
    "gru4rec": {"embedding": 16, "hidden": 24, "layers": 1, "dropout": 0.1},
}


def catalogue_of(n_items: int) -> Catalogue:
    names = tuple(f"item {item}" for item in range(n_items))
    return Catalogue(names, names, (("all",),) * n_items, ("all",) * n_items, (1,) * n_items)


def sequences_of(rows: list[list[int]], history_length: int = 10) -> Sequences:
    offsets = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
    items = np.asarray([item for row in rows for item in row], np.int32)
    return Sequences(tuple(f"user {user}" for user in range(len(rows))), offsets, items, history_length)


def random_world(n_users: int = 30, n_items: int = 25, seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, n_items + 1, n_users)
    return sequences_of([rng.permutation(n_items)[:length].tolist() for length in lengths])


def cyclic_world(n_users: int = 60, n_items: int = 40, length: int = 20) -> Sequences:
    """Every user walks the same circle from another start: the next item is always the last one plus 1."""
    return sequences_of([[(user + step) % n_items for step in range(length)] for user in range(n_users)])
