"""Which category an instruction asks for and which items answer it (spec section 3, "Labels").

Everything here works on batches: row b of ``scores`` holds the teacher's score of every item after history b, minus
infinity for the items of that history, so that nothing shown is ever recommended.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctrlrec.controls.registry import control_of
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.teacher.ranker import ranks_of, top_of


def category_of_negative(catalogue: Catalogue, top: Sequence[int], target: int) -> str | None:
    """Return the category with the largest share of the teacher's best items that the target does not have.

    Args:
        catalogue: names and membership.
        top: the teacher's best k items, in order.
        target: the ground truth.

    Returns:
        The category's name, the first by name among equals; None if every category of ``top`` is the target's.
    """
    shares = catalogue.membership[:, list(top)].sum(axis=1)
    shares[catalogue.membership[:, target]] = 0
    best = int(shares.argmax())
    return catalogue.category_names[best] if shares[best] else None


def negative_categories(
    catalogue: Catalogue, scores: torch.Tensor, targets: Sequence[int], depths: Sequence[int]
) -> list[str | None]:
    """:func:`category_of_negative` for a batch, looking deeper if the first k items leave no category.

    Args:
        catalogue: names and membership.
        scores: (B, n_items) teacher scores.
        targets: B catalogue indices.
        depths: B numbers of best items whose categories count.

    Returns:
        B category names; None only if the target has every category of the catalogue's reachable items.
    """
    best = top_of(scores, min(max(depths), scores.shape[1]))
    found: list[str | None] = []
    for row, (target, depth) in enumerate(zip(targets, depths, strict=True)):
        category = category_of_negative(catalogue, best[row][:depth], target)
        while category is None and depth < scores.shape[1]:
            depth = min(4 * depth, scores.shape[1])
            category = category_of_negative(catalogue, top_of(scores[row : row + 1], depth)[0], target)
        found.append(category)
    return found


def feasible_counts(
    task: str, item_count: int, proportion: int | None, target_inside: bool | None, inside: int, outside: int
) -> list[int]:
    """Return numbers of in-category items that obey the instruction and that the catalogue can supply.

    Args:
        task: kind of instruction.
        item_count: k.
        proportion: percent for the proportion tasks.
        target_inside: whether the ground truth, which must be part of the answer, is in the category; None if it
            need not be part of it.
        inside: in-category items that may be listed besides a ground truth that must be.
        outside: the same for items outside the category.
    """
    control = control_of(task)
    assert control is not None
    counts = control.allowed(item_count, proportion)
    fixed_in, fixed_out = target_inside is True, target_inside is False
    return [
        count for count in counts if 0 <= count - fixed_in <= inside and 0 <= item_count - count - fixed_out <= outside
    ]


@dataclass(frozen=True, slots=True)
class Demand:
    """A demand that an answer can meet.

    Attributes:
        item_count: k.
        category: name; None for sequential recommendation.
        count_in: in-category items among the k.
        keeps_target: whether the ground truth leads the answer.
    """

    item_count: int
    category: str | None
    count_in: int
    keeps_target: bool


def settle(
    task: str,
    item_count: int,
    proportion: int | None,
    categories: Sequence[str],
    catalogue: Catalogue,
    history: Sequence[int],
    target: int,
    target_required: bool,
    rng: np.random.Generator,
) -> Demand:
    """Return the first of ``categories`` that can supply k items; if none can, k is lowered.

    Args:
        task: kind of instruction.
        item_count: k at most.
        proportion: percent for the proportion tasks.
        categories: names in the order to try; empty for sequential recommendation.
        catalogue: membership.
        history: items that may not be listed.
        target: the ground truth.
        target_required: whether the ground truth must be part of the answer (``category_sampling: ground_truth``).
        rng: draws the number of in-category items among those allowed.
    """
    taken = np.asarray([*history, target] if target_required else history, dtype=np.int64)
    for k in range(item_count, 0, -1):
        for category in categories:
            index = catalogue.category_index[category]
            row = catalogue.membership[index]
            target_inside = bool(row[target])
            inside = int(catalogue.category_sizes[index] - row[taken].sum())
            outside = len(catalogue) - len(taken) - inside
            counts = feasible_counts(task, k, proportion, target_inside if target_required else None, inside, outside)
            if counts:
                count = counts[int(rng.integers(len(counts)))]
                return Demand(k, category, count, (count if target_inside else k - count) > 0)
    return Demand(min(item_count, len(catalogue) - len(history)), None, 0, True)


def answers(
    catalogue: Catalogue, scores: torch.Tensor, targets: Sequence[int], demands: Sequence[Demand]
) -> tuple[list[tuple[int, ...]], list[tuple[int | None, ...]]]:
    """Return the ground truth, then the teacher's best items that obey, in the teacher's order.

    Args:
        catalogue: membership.
        scores: (B, n_items) teacher scores, minus infinity for the history.
        targets: B ground-truth items.
        demands: B settled demands.

    Returns:
        B label lists (catalogue indices) and B lists of their 0-based teacher ranks.
    """
    names = [demand.category for demand in demands]
    rows, columns = torch.arange(len(targets)), torch.tensor(targets)
    membership = torch.from_numpy(catalogue.membership)
    inside = membership[[0 if name is None else catalogue.category_index[name] for name in names]]
    inside[[name is None for name in names]] = False
    target_inside = inside[rows, columns].tolist()
    others = scores.clone()
    others[rows, columns] = -torch.inf
    depth = min(max(demand.item_count for demand in demands), scores.shape[1])
    best_in, best_out = top_of(others, depth, inside), top_of(others, depth, ~inside)
    chosen = []
    for row, (target, demand) in enumerate(zip(targets, demands, strict=True)):
        lead = [target] if demand.keeps_target else []
        wanted_in = demand.count_in - (demand.keeps_target and target_inside[row])
        wanted_out = demand.item_count - len(lead) - wanted_in
        chosen.append(lead + best_in[row][:wanted_in] + best_out[row][:wanted_out])
    labels, ranks = [], []
    for items, places, demand in zip(chosen, ranks_of(scores, chosen), demands, strict=True):
        head = int(demand.keeps_target)
        rest = sorted(zip(places[head:], items[head:], strict=True))  # type: ignore[type-var]
        labels.append((*items[:head], *(item for _, item in rest)))
        ranks.append((*places[:head], *(place for place, _ in rest)))
    return labels, ranks
