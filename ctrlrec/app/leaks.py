"""Leaks: interactions that the split holds out, found in what a run trained on.

Each check reads one artefact and compares it with the split. ``sequences.jsonl`` is compared with the source itself,
everything else with ``sequences.jsonl``.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ctrlrec.config.schema import Config, Split
from ctrlrec.controls.registry import CHAT, SEARCH
from ctrlrec.data.attributes import NICHE, POPULAR, popularity
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.prepare import Prepared
from ctrlrec.data.sequences import Sequences
from ctrlrec.instructions.builder import InstructionBuilder
from ctrlrec.teacher.module import Windows

EPOCHS = 10  # of the teacher's windows that are drawn again
_PADDING = -1


@dataclass(frozen=True)
class Leak:
    """Something that training must not hold.

    Attributes:
        file: that holds it.
        line: from 1; None for a file without lines.
        user: whose interaction it is; None if that is unknown.
        item: its title; None if the leak is not about one item.
        why: what is wrong.
    """

    file: Path
    line: int | None
    user: str | None
    item: str | None
    why: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        who = [f"user {self.user}"] if self.user is not None else []
        what = [f"item '{self.item}'"] if self.item is not None else []
        return f"{place}: {', '.join([*who, *what, self.why])}"


class Held:
    """The held-out items of each user, by title.

    Args:
        catalogue: of the run.
        sequences: of the run.
    """

    def __init__(self, catalogue: Catalogue, sequences: Sequences):
        self.sequences = sequences
        titles = catalogue.titles
        self._items = {name: [titles[item] for item in sequences.of(user)] for user, name in enumerate(sequences.users)}
        self._trained = dict(zip(sequences.users, sequences.trained.tolist(), strict=True))
        self._validation = {
            sequences.users[user]: titles[sequences.validation(user)[1]] for user in sequences.validated.tolist()
        }

    def out(self, user: str) -> set[str]:
        """Return the titles of a user that may not be trained on."""
        return set(self._items[user][self._trained[user] :])

    def why_not(self, user: str, title: str) -> str | None:
        """Return why a title may not stand in what is trained on for a user; None if it may."""
        if user not in self._items:
            return "the data have no such user"
        if title in self._items[user][: self._trained[user]]:
            return None
        if title in self._items[user]:
            place = self._items[user].index(title) + 1
            return f"held out, number {place} in the user's order: the first {self._trained[user]} are trained on"
        return "none of the user's training items"

    def why_not_validation(self, user: str, title: str) -> str | None:
        """Return why a title may not be what validation asks of a user; None if it may."""
        return None if self._validation.get(user) == title else "not the validation item of the user"


def lines_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number, from 1, and contents of each line of a JSON Lines file."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            yield number, json.loads(line)


def of_source(path: Path, catalogue: Catalogue, sequences: Sequences, again: Prepared) -> list[Leak]:
    """Compare the training items of ``sequences.jsonl`` with those of the source, prepared again."""
    found, titles, other = [], catalogue.titles, again.catalogue.titles
    places = {name: user for user, name in enumerate(again.sequences.users)}
    for user, name in enumerate(sequences.users):
        mine = [titles[item] for item in sequences.train(user)]
        place = places.get(name)
        source = [other[item] for item in again.sequences.train(place)] if place is not None else []
        for title in mine:
            if title not in source:
                found.append(Leak(path, user + 1, name, title, "among the training items; the source puts it later"))
        if mine != source and set(mine) <= set(source):
            first = next((a for a, b in zip(mine, source, strict=False) if a != b), (source + mine)[len(mine)])
            found.append(Leak(path, user + 1, name, first, "the training items are not those of the source"))
    return found


def of_catalogue(path: Path, catalogue: Catalogue, sequences: Sequences, config: Config) -> list[Leak]:
    """Compare the training counts, the bands of popularity and the items of the catalogue with the training items."""
    counts = np.bincount(sequences.items[sequences.is_training], minlength=len(catalogue))
    expected = replace(catalogue, interactions=tuple(counts.tolist()))
    bands = popularity(expected) if "popularity" in config.dataset.attributes else [None] * len(catalogue)
    out: dict[int, list[str]] = {}
    held = np.flatnonzero(~sequences.is_training)
    for place in held.tolist():
        user = int(np.searchsorted(sequences.offsets, place, side="right")) - 1
        out.setdefault(int(sequences.items[place]), []).append(sequences.users[user])
    found = []
    for item, (title, count) in enumerate(zip(catalogue.titles, catalogue.interactions, strict=True)):
        line, whose = item + 1, out.get(item, [None])[0]  # type: ignore[list-item]
        if count != counts[item]:
            why = f"{count} training interactions on record, the split leaves {counts[item]}"
            found.append(Leak(path, line, whose, title, why))
        shown = {POPULAR, NICHE} & set(catalogue.categories[item])
        if "popularity" in config.dataset.attributes and shown != ({bands[item]} - {None}):
            why = f"its band is {', '.join(shown) or 'none'}, training makes it {bands[item] or 'none'}"
            found.append(Leak(path, line, whose, title, why))
        if config.dataset.split == Split.global_time and not counts[item]:
            why = "in the catalogue, and so in every trie, and nobody has it in training"
            found.append(Leak(path, line, whose, title, why))
    return found


def of_windows(path: Path, sequences: Sequences, titles: tuple[str, ...], seed: int, epochs: int) -> list[Leak]:
    """Draw the teacher's windows again, and compare the pairs that they teach with those of the training items.

    An epoch asks once for every item behind another one, and for nothing else.
    """
    size = len(titles)
    training = sequences.is_training
    follows = training[1:] & training[:-1]
    follows[sequences.offsets[1:-1] - 1] = False
    before, after = sequences.items[:-1].astype(np.int64), sequences.items[1:].astype(np.int64)
    pairs = before * size + after
    allowed = dict(zip(*(part.tolist() for part in np.unique(pairs[follows], return_counts=True)), strict=True))
    found: dict[int, Leak] = {}
    for epoch in range(min(epochs, EPOCHS)):
        windows = Windows(sequences, _PADDING, 1, seed, epoch).windows()
        first, second = windows[:, :-1].ravel(), windows[:, 1:].ravel()
        taught = np.unique((first * size + second)[second != _PADDING], return_counts=True)
        for pair, count in zip(*(part.tolist() for part in taught), strict=True):
            if count <= allowed.get(pair, 0):
                continue
            whose = np.flatnonzero((pairs == pair) & ~follows)
            user = None
            if len(whose):
                user = sequences.users[int(np.searchsorted(sequences.offsets, whose[0], side="right")) - 1]
            why = f"a window of epoch {epoch} teaches it after '{titles[pair // size]}', which is held out"
            found.setdefault(pair, Leak(path, None, user, titles[pair % size], why))
    return list(found.values())


def of_questions(path: Path, held: Held, validation: bool = False) -> list[Leak]:
    """Look through histories and targets of ``instructions.jsonl``, ``validation.jsonl`` or ``rollouts.jsonl``.

    Args:
        path: of the file.
        held: what is held out.
        validation: whether the targets are to be validation items.
    """
    found = []
    for number, line in lines_of(path):
        if line["user"] is None:
            continue
        user = str(line["user"])
        named = [("history", title) for title in line["history"]] + [("target", line["target"])]
        for part, title in named:
            why = held.why_not_validation(user, title) if validation and part == "target" else held.why_not(user, title)
            if why is not None:
                found.append(Leak(path, number, user, title, f"in the {part}: {why}"))
    return found


def of_labels(path: Path, held: Held, builder: InstructionBuilder | None) -> list[Leak]:
    """Look through the labels of ``instructions.jsonl``.

    The teacher may well recommend what a user took later. Such a label is a leak unless the teacher, asked again,
    recommends it at the same place.

    Args:
        path: of the file.
        held: what is held out.
        builder: of the run, with its teacher; None to suspect nothing that a teacher ranked.
    """
    found, suspects = [], []
    for number, line in lines_of(path):
        user = line["user"]
        for label, rank in zip(line["labels"], line["label_ranks"], strict=True) if user is not None else ():
            if label == line["target"]:
                continue  # looked at as a target
            if rank is None and (why := held.why_not(str(user), label)):
                found.append(Leak(path, number, str(user), label, f"among the labels: {why}"))
            elif rank is not None and label in held.out(str(user)):
                suspects.append((number, line, label))
    if suspects and builder is not None:
        families = [family for family in builder.families if family not in (SEARCH, CHAT)]
        again = builder.epoch(0, families)
        for number, line, label in suspects:
            made: Mapping[str, Any] = again[number - 1].record(builder.catalogue) if number <= len(again) else {}
            if made.get("labels") != line["labels"]:
                why = "among the labels, and held out: the teacher, asked again, does not put it there"
                found.append(Leak(path, number, str(line["user"]), label, why))
    return found


def tested(sequences: Sequences) -> str:
    """Return the numbers of users of each part."""
    parts = (sequences.trained > 0).sum(), len(sequences.validated), len(sequences.tested)
    return "{} users trained on, {} validated, {} tested".format(*parts)
