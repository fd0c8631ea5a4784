"""A small film data set in the files of MovieLens-100K, and the settings of a run on it that learns to write lists."""

import random
from pathlib import Path

import tiny_run

_ADJECTIVES = ("Red", "Old", "Lost", "Wild", "Deep", "Last", "Cold", "Big", "Tin", "Dry")
_NOUNS = ("Fox", "Sea", "Men", "War", "Sun")
GENRES = ("Action", "Comedy", "Drama", "Horror")


def write_films(folder: Path, users: int = 60, seed: int = 7) -> None:
    """50 films of one or two genres; users walk a circle of films with jumps."""
    rng = random.Random(seed)
    names = [f"{adjective} {noun}" for adjective in _ADJECTIVES for noun in _NOUNS]
    folder.mkdir(parents=True)
    items = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    for item, name in enumerate(names):
        genres = rng.sample(GENRES, rng.randint(1, 2))
        items.append(f"{item}\t{name}\t{1950 + item}\t{' '.join(genres)}")
    rows = []
    for user in range(users):
        place, seen = rng.randrange(50), []
        for step in range(rng.randint(8, 20)):
            while place in seen:
                place = (place + rng.choice((1, 1, 1, 9))) % 50
            seen.append(place)
            rows.append(f"{user}\t{place}\t5\t{100000 * step + user}")
    rng.shuffle(rows)
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "ml-100k.item").write_text("\n".join(items) + "\n")
    (folder / "ml-100k.inter").write_text("\n".join([head, *rows]) + "\n")


def settings(folder: Path, output: Path) -> list[str]:
    """Overrides of ``variant=full`` that trains long enough for lists of different films."""
    return tiny_run.settings(
        folder, output, dataset="movielens_100k", instructions__candidate_share=0, model__hidden_size=64,
        model__vocabulary=420, sl__max_steps=140, sl__batch_size=32, sl__validations=1, sl__learning_rate=0.006,
        rl__iterations=2, rl__item_count_min=6, generation__max_new_tokens=110, evaluation__users=10,
        evaluation__settings=f"[{','.join(SETTINGS)}]",
    )  # fmt: skip


SETTINGS = (
    "sequential", "category_positive", "category_negative", "at_most_20", "about_30", "at_least_30", "formatting",
    "blend_2",
)  # fmt: skip
