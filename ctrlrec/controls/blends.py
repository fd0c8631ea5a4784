"""Which kinds of wishes are blended in one instruction, and which combinations training never shows."""

from collections.abc import Collection

LEAST, MOST = 2, 4  # conditions of a blend (spec section 12)

# Pairs of kinds that no training instruction holds, be it alone or with others. The setting blend_unseen asks them.
UNSEEN: tuple[tuple[str, str], ...] = (("positive", "at_most"), ("negative", "about"))


def is_unseen(kinds: Collection[str]) -> bool:
    """Return whether training never shows these kinds together."""
    return any(set(pair) <= set(kinds) for pair in UNSEEN)
