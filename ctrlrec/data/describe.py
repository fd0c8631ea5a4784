"""Numbers of a prepared dataset, for its data card."""

from typing import Any

import numpy as np

from ctrlrec.config.schema import CategoryKind
from ctrlrec.data.catalogue import MIN_CATEGORY_ITEMS, Catalogue
from ctrlrec.data.sequences import Sequences

_LARGEST = 10


def describe(catalogue: Catalogue, sequences: Sequences, kind: CategoryKind) -> dict[str, Any]:
    """Describe data: the line of Table 1, lengths, categories, and what the test items cover of them.

    Shares are between 0 and 1. A depth is the number of prefixes of an item's longest path, or of its flat categories.
    """
    users, items, interactions = len(sequences), len(catalogue), len(sequences.items)
    lengths = np.diff(sequences.offsets)
    sizes = catalogue.category_sizes
    largest = np.argsort(-sizes, kind="stable")[:_LARGEST]
    asked = [sequences.test(user) for user in sequences.tested.tolist()]
    tests = np.array([target for _, target in asked])
    targets = np.array([catalogue.category_index[name] for name in catalogue.target_categories])[tests]
    return {
        "users": users,
        "items": items,
        "interactions": interactions,
        "sparsity": 1 - interactions / (users * items),
        "sequence_length": _spread(lengths) | {"powers_of_two": np.bincount(np.log2(lengths).astype(int)).tolist()},
        "test_history_length": _spread(np.array([len(history) for history, _ in asked])),
        "title_length": _spread(np.array([len(title) for title in catalogue.titles])),
        "items_never_trained": int(sum(count == 0 for count in catalogue.interactions)),
        "categories": {
            "kind": str(kind),
            "count": len(sizes),
            "size": _spread(sizes) | {"powers_of_two": np.bincount(np.log2(sizes).astype(int)).tolist()},
            "small": int((sizes < MIN_CATEGORY_ITEMS).sum()),
            "depth": _spread(np.array([_depth(names, kind) for names in catalogue.categories])),
            "largest": {catalogue.category_names[row]: int(sizes[row]) for row in largest},
        },
        "test_targets": {
            "distinct_items": len(np.unique(tests)),
            "categories_covered": len({name for item in np.unique(tests) for name in catalogue.categories[item]})
            / len(sizes),
            "distinct_target_categories": len(np.unique(targets)),
            "target_category_size": _spread(sizes[targets]),
        },
    }


def _depth(names: tuple[str, ...], kind: CategoryKind) -> int:
    if kind == CategoryKind.flat:
        return len(names)
    return max(sum(name == other or name.startswith(other + ", ") for other in names) for name in names)


def _spread(values: np.ndarray) -> dict[str, float]:
    return {
        "min": int(values.min()),
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "max": int(values.max()),
    }
