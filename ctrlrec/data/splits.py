"""Splits: which interactions are trained on, and which ones validation and test ask for (spec section 2).

``last_out`` is the paper's leave-one-out. The last item of a user is the test item, the one before is the validation
item, the rest is training. A user's training items may be later than another user's test item.

``global_time`` cuts all interactions at two points in time, as a recommender in use is cut off from its future.

- ``dataset.test_share`` of all interactions lie at or after the test cut, and ``dataset.validation_share`` of them
  between the validation cut and the test cut. Interactions count after cleaning and before the k-core, a repeated one
  once. Equal timestamps stay together, after the cut.
- Training is what lies before the validation cut. ``dataset.most_popular`` and the k-core look at training alone, so
  that the catalogue holds no item of the future. Later interactions with other items are left out.
- The validation item of a user of the k-core is the first interaction between the cuts; the history before it is that
  of training.
- The test item of a user is the first interaction at or after the test cut, if the user has an item before that cut.
  The history is all that lies before the cut. Users without such an item are not tested; what follows it is left out.
- A user who is not in the k-core of training is asked in the test, but neither trained on nor validated with.
"""

import logging
from typing import Any

import numpy as np

from ctrlrec.config.schema import DatasetConfig, Split
from ctrlrec.data.core import k_core, most_popular
from ctrlrec.data.sequences import MIN_SEQUENCE, NONE
from ctrlrec.errors import CtrlRecError

log = logging.getLogger(__name__)

Chosen = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # users, items (n,) and places (users left, 3)


def split(
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    sizes: tuple[int, int],
    config: DatasetConfig,
    report: dict[str, Any],
) -> Chosen:
    """Return the interactions that are kept, and the places at which a user's items are split.

    Args:
        users: (n,) of each interaction, ascending.
        items: (n,) of each interaction, each user's in time order.
        times: (n,) int64 microseconds.
        sizes: numbers of users and items.
        config: says how to split.
        report: gains what was dropped, ``k_core`` and for ``global_time`` also ``split``.

    Returns:
        Users and items of what is kept, and places as :class:`ctrlrec.data.sequences.Sequences` has them, one row for
        each user who is left, ascending; None for ``last_out``.

    Raises:
        CtrlRecError: if the k-core leaves nobody, or the cuts leave nothing to train on, validate with or test on.
    """
    if config.split == Split.last_out:
        users, items = most_popular(users, items, config, report)
        return *k_core(users, items, sizes, config, MIN_SEQUENCE, report), None
    return _global_time(users, items, times, sizes, config, report)


def _global_time(
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    sizes: tuple[int, int],
    config: DatasetConfig,
    report: dict[str, Any],
) -> Chosen:
    first, second = cuts(times, config)
    if report["times"]["first"] is None:
        log.warning(
            "%-12s dataset.split=global_time: the timestamps are not dates; one cut fits all users only if they share "
            "a clock", "",
        )  # fmt: skip
    period = (times >= first).astype(int) + (times >= second)
    counted = np.bincount(period, minlength=3)
    trained = period == 0
    core_users, core_items = most_popular(users[trained], items[trained], config, report)
    core_users, core_items = k_core(core_users, core_items, sizes, config, 1, report)
    known, member = np.isin(items, core_items), np.zeros(sizes[0], bool)
    member[core_users] = True
    target = np.zeros(len(users), bool)
    after = np.flatnonzero(known & (period == 2))
    target[after[np.unique(users[after], return_index=True)[1]]] = True
    history = np.bincount(users[known & (period < 2)], minlength=sizes[0]) > 0
    tested = history & (np.bincount(users[target], minlength=sizes[0]) > 0)
    kept = known & (member | tested)[users] & ((period < 2) | (target & tested[users]))
    _count_dropped(period, known, kept, report)
    users, items, period = users[kept], items[kept], period[kept]
    train = np.bincount(users[period == 0], minlength=sizes[0]) * member
    validated = member & (np.bincount(users[period == 1], minlength=sizes[0]) > 0)
    last = np.bincount(users, minlength=sizes[0]) - 1
    who = np.unique(users)
    places = np.stack([train, np.where(validated, train, NONE), np.where(tested, last, NONE)], axis=1)[who]
    report["split"] = {
        "name": config.split.value,
        "validation_cut": _moment(first, report),
        "test_cut": _moment(second, report),
        "interactions": dict(zip(("train", "validation", "test"), counted.tolist(), strict=True)),
        "users": {"train": int(member.sum()), "validation": int(validated.sum()), "test": int(tested.sum())},
        "users_only_tested": int((tested & ~member).sum()),
    }
    for what, found in (("validation", validated), ("test", tested)):
        if not found.any():
            raise CtrlRecError(
                f"dataset {config.name} dataset.split=global_time: no user has an item of the catalogue both before "
                f"and after the {what} cut; raise dataset.{what}_share, or lower dataset.min_item_interactions"
            )
    return users, items, places


def cuts(times: np.ndarray, config: DatasetConfig) -> tuple[int, int]:
    """Return the validation cut and the test cut: what is at or after a cut is later than it.

    Args:
        times: (n,) int64 microseconds, in any order.
        config: the shares.

    Raises:
        CtrlRecError: if so many interactions have one time that nothing is left before, between or after the cuts.
    """
    ordered, count = np.sort(times), len(times)
    held_out = config.validation_share + config.test_share
    places = (int(count * (1 - share)) for share in (held_out, config.test_share))
    first, second = (int(ordered[min(place, count - 1)]) for place in places)
    if not ordered[0] < first < second:
        raise CtrlRecError(
            f"dataset {config.name} dataset.split=global_time: {count} interactions have too few different times to "
            "cut them twice; change dataset.validation_share or dataset.test_share, or use dataset.split=last_out"
        )
    return first, second


def _count_dropped(period: np.ndarray, known: np.ndarray, kept: np.ndarray, report: dict[str, Any]) -> None:
    """Count what the cuts leave out; what training loses is counted with the k-core."""
    report["dropped"] |= {
        "later interactions with items that training lacks": int((~known & (period > 0)).sum()),
        "interactions between the cuts of users who are neither trained on nor tested": int(
            (known & ~kept & (period == 1)).sum()
        ),
        "interactions after the test cut that nobody is asked for": int((known & ~kept & (period == 2)).sum()),
    }


def _moment(time: int, report: dict[str, Any]) -> str:
    """Return a cut as a date with its time, or as a number if the timestamps are not dates."""
    if report["times"]["first"] is None:
        return str(time)
    return str(np.datetime64(time, "us").astype("datetime64[s]")).replace("T", " ")
