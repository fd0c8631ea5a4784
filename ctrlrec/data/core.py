"""Which users and items have enough interactions to stay (spec section 2)."""

from typing import Any

import numpy as np

from ctrlrec.config.schema import DatasetConfig
from ctrlrec.errors import CtrlRecError

Rows = tuple[np.ndarray, np.ndarray]  # user and item of each interaction, both (n,)


def most_popular(users: np.ndarray, items: np.ndarray, config: DatasetConfig, report: dict[str, Any]) -> Rows:
    """Keep the interactions with the items that most users met, if ``dataset.most_popular`` says how many."""
    if config.most_popular is None:
        return users, items
    met = np.bincount(items)
    chosen = np.argsort(-met, kind="stable")[: config.most_popular]
    kept = np.isin(items, chosen)
    report["dropped"]["interactions with less popular items"] = len(items) - int(kept.sum())
    return users[kept], items[kept]


def k_core(
    users: np.ndarray,
    items: np.ndarray,
    sizes: tuple[int, int],
    config: DatasetConfig,
    shortest: int,
    report: dict[str, Any],
) -> Rows:
    """Drop users and items with too few interactions, again and again, until all that are left have enough.

    Args:
        users: (n,) of each interaction.
        items: (n,) of each interaction.
        sizes: numbers of users and items.
        config: says how many are enough.
        shortest: interactions of a user that the split needs, whatever the configuration says.
        report: gains ``k_core``.

    Raises:
        CtrlRecError: if nobody is left.
    """
    before = len(users), len(np.unique(users)), len(np.unique(items))
    needed = max(config.min_user_interactions, shortest)
    short, rounds = 0, 0
    while True:
        of_user, of_item = np.bincount(users, minlength=sizes[0]), np.bincount(items, minlength=sizes[1])
        short += int(((of_user > 0) & (of_user < shortest) & (of_user >= config.min_user_interactions)).sum())
        kept = (of_user >= needed)[users] & (of_item >= config.min_item_interactions)[items]
        if kept.all():
            break
        users, items, rounds = users[kept], items[kept], rounds + 1
    if not len(users):
        raise CtrlRecError(
            f"dataset {config.name}: none of {before[1]} users is left after the k-core (users >= {needed}, items >= "
            f"{config.min_item_interactions}); lower dataset.min_user_interactions (a user needs {shortest} for "
            "the split) or dataset.min_item_interactions"
        )
    report["k_core"] = {
        "users": config.min_user_interactions,
        "items": config.min_item_interactions,
        "rounds": rounds,
        "interactions_dropped": before[0] - len(users),
        "users_dropped": before[1] - len(np.unique(users)),
        "items_dropped": before[2] - len(np.unique(items)),
        "short_users": short,
    }
    return users, items
