"""Finished evaluations on disk: a catalogue of ten films, four users, rows that answer as they are told."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ctrlrec.config.compose import plain
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.scoring import score
from ctrlrec.runtime.files import write_jsonl

TITLES = ("Alien", "Babe", "Clerks", "Das Boot", "E.T.", "Fargo", "Gattaca", "<b>Heat</b> | x", "Ikiru", "Jaws")
CATALOGUE = Catalogue(
    tuple(f"i{item}" for item in range(10)),
    TITLES,
    tuple((("Horror", "Comedy")[item % 2],) for item in range(10)),
    tuple(("Horror", "Comedy")[item % 2] for item in range(10)),
    (1,) * 10,
)
Answer = Callable[[str, int], Sequence[str]]


def record(setting: str, user: int, titles: Sequence[str]) -> dict[str, Any]:
    """A line of ``predictions.jsonl``: history Alien and Babe, target Clerks, three items asked for."""
    items = [title if title in TITLES else None for title in titles]
    return {
        "setting": setting, "user": f"u{user}", "history": ["Alien", "Babe"], "target": "Clerks", "item_count": 3,
        "category": None if setting == "sequential" else "Horror",
        "proportion": 30 if setting == "about_30" else None, "prompt": f"Ask {setting} <of> u{user}",
        "response": "", "titles": list(titles), "items": items,
        "teacher_rank": [None if item in (None, "Alien", "Babe") else TITLES.index(item) for item in items],
    }  # fmt: skip


def write_evaluation(
    root: Path,
    name: str,
    config: Any,
    answer: Answer,
    settings: Sequence[str] = ("sequential", "about_30"),
    users: int = 4,
) -> Path:
    """An evaluation directory whose upstream data stage holds the catalogue."""
    data = root / "data" / "made"
    data.mkdir(parents=True, exist_ok=True)
    CATALOGUE.save(data / "catalogue.jsonl")
    directory = root / "evaluate" / name
    directory.mkdir(parents=True)
    rows = [record(setting, user, answer(setting, user)) for setting in settings for user in range(users)]
    write_jsonl(directory / "predictions.jsonl", rows)
    (directory / "metrics.json").write_text(json.dumps(score(rows, CATALOGUE, 50, 0.95, 0)))
    upstream = {
        stage: {"directory": str(root / stage / "made"), "fingerprint": f"{stage}-1"}
        for stage in ("data", "teacher", "sl", "rl")
    }
    for stage in upstream:
        (root / stage / "made").mkdir(parents=True, exist_ok=True)
        made = {"git_commit": f"0{stage}", "wall_seconds": 5.0}
        (root / stage / "made" / "provenance.json").write_text(json.dumps(made))
    (directory / "provenance.json").write_text(
        json.dumps({"config": plain(config), "upstream": upstream, "seed": config.seed})
    )
    return directory
