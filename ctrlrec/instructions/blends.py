"""Draws blends: several conditions that a list exists for, with the best such list (spec section 12).

Kinds and categories are drawn as those of single conditions are. What no list meets is drawn again.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from ctrlrec.config.schema import CategorySampling, InstructionsConfig
from ctrlrec.controls.blends import LEAST, MOST, UNSEEN, is_unseen
from ctrlrec.controls.cells import best_list
from ctrlrec.controls.instruction import Condition
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.instructions.drafts import Blending, Draft

_TRIES = 32  # draws before a blend is given up


def draw_blend(
    draft: Draft, scores: np.ndarray, order: np.ndarray, catalogue: Catalogue, config: InstructionsConfig
) -> tuple[tuple[Condition, ...], tuple[int, ...]] | None:
    """Draw conditions until a list of k items meets them all.

    In training the ground truth leads the list; with ``category_sampling: uniform`` only if it can. In evaluation
    the list is the best whatever the ground truth is.

    Args:
        draft: with its ``blending``.
        scores: (n_items,) the teacher's after the history.
        order: items outside the history, best first.
        catalogue: titles and categories.
        config: proportions and the rule for categories.

    Returns:
        The conditions in the order of their words, and the best list; None if none was found.
    """
    blending = draft.blending
    assert blending is not None
    uniform = config.category_sampling == CategorySampling.uniform and not draft.fixed_category
    lacked = list(itertools.islice(largest_lacked(catalogue, order, draft.target, draft.item_count), MOST))
    leads: tuple[int | None, ...] = (draft.target, None) if uniform else (draft.target,)
    if draft.fixed_category:
        leads = (None,)
    for _ in range(_TRIES):
        kinds = _draw_kinds(blending)
        if kinds is None:
            continue
        conditions = _conditions(draft, kinds, lacked, catalogue, config, uniform)
        if conditions is None:
            continue
        for first in leads:
            items = best_list(conditions, draft.item_count, scores, order, catalogue, first)
            if items is not None:
                return conditions, items
    return None


def largest_lacked(catalogue: Catalogue, order: np.ndarray, target: int, depth: int) -> Iterator[str]:
    """Yield the categories that the target lacks: first those with the largest share of the teacher's best items.

    Args:
        catalogue: names and membership.
        order: items, best first.
        target: the ground truth.
        depth: number of best items whose categories count. What they leave out follows, from ever more items.
    """
    given: set[int] = set()
    while True:
        shares = catalogue.membership[:, order[:depth]].sum(axis=1)
        shares[catalogue.membership[:, target]] = 0
        for row in np.argsort(-shares, kind="stable").tolist():
            if shares[row] and row not in given:
                given.add(row)
                yield catalogue.category_names[row]
        if depth >= len(order):
            return
        depth = min(4 * depth, len(order))


def _draw_kinds(blending: Blending) -> list[str] | None:
    """Return kinds in the order of the words; None if they are not what may be asked."""
    rng = blending.rng
    if blending.unseen:
        pair = UNSEEN[int(rng.integers(len(UNSEEN)))]
        return [pair[place] for place in rng.permutation(len(pair)).tolist()]
    count = blending.count or int(rng.integers(LEAST, MOST + 1))
    kinds, choices = [] if blending.own is None else [blending.own], list(blending.controls)
    kinds += [choices[place] for place in rng.integers(len(choices), size=count - len(kinds)).tolist()]
    return None if is_unseen(kinds) else [kinds[place] for place in rng.permutation(count).tolist()]


def _conditions(
    draft: Draft,
    kinds: Sequence[str],
    lacked: Sequence[str],
    catalogue: Catalogue,
    config: InstructionsConfig,
    uniform: bool,
) -> tuple[Condition, ...] | None:
    """Give each kind a category of its own and its percent; None if there are too few categories."""
    blending = draft.blending
    assert blending is not None
    if uniform:
        names = catalogue.category_names
        drawn = blending.rng.permutation(len(names))[: len(kinds)].tolist()
        wanted = unwanted = iter([names[place] for place in drawn])
    else:
        wanted, unwanted = iter(_wanted(draft, catalogue)), iter(lacked)
    conditions = []
    own = blending.own  # the first condition of this kind has the percent that was drawn for it
    for kind in kinds:
        control = blending.controls[kind]
        category = next(unwanted if control.opposes else wanted, None)
        if category is None:
            return None
        percent = None
        if control.takes_percent and kind == own:
            percent = draft.proportion
        elif control.takes_percent:
            asked = sorted({percent for percent in control.settings.values() if percent is not None})
            percents = asked if draft.fixed_category else config.proportions
            percent = percents[int(blending.rng.integers(len(percents)))]
        own = None if kind == own else own
        conditions.append(Condition(control, category, percent))
    return tuple(conditions)


def _wanted(draft: Draft, catalogue: Catalogue) -> list[str]:
    """Return the ground truth's categories in the order to ask for them.

    Evaluation begins with the target category, and continues with the next most specific ones.
    """
    own = catalogue.categories[draft.target]
    if not draft.fixed_category:
        assert draft.blending is not None
        return [own[place] for place in draft.blending.rng.permutation(len(own)).tolist()]
    target, index, sizes = catalogue.target_categories[draft.target], catalogue.category_index, catalogue.category_sizes
    return [target, *sorted((name for name in own if name != target), key=lambda name: (sizes[index[name]], name))]
