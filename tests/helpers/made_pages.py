"""A made-up sweep with hostile titles and the folder of tables that it leaves."""

import json
from pathlib import Path
from typing import Any

from evaluations import write_evaluation

from ctrlrec.config.compose import compose
from ctrlrec.reporting.report import report

SETTINGS = ("sequential", "category_positive", "category_negative", "about_30", "formatting")
EVIL = "<script>alert(\"1\")</script> & 'quoted' 🎬 \x1b[31m"


def good(setting: str, user: int) -> tuple[str, ...]:
    return ("Clerks", "E.T.", "Gattaca")


def repeating(setting: str, user: int) -> tuple[str, ...]:
    return ("Clerks", "Clerks", "Alien", EVIL, "Ikiru")


def evaluated(root: Path, name: str, answer: Any, *words: str, **options: Any) -> tuple[Any, Path]:
    config = compose(f"output={root}", "logger=csv", "evaluation.bootstrap_resamples=50", f"variant={name}", *words)
    folder = f"{name}-{config.seed}"
    return config, write_evaluation(root, folder, config, answer, **{"settings": SETTINGS} | options)


def rollout(iteration: int, titles: tuple[str, ...]) -> dict[str, Any]:
    return {
        "iteration": iteration, "task": "proportion_about", "user": "u1", "history": ["Alien"], "target": "Clerks",
        "item_count": 3, "category": "Horror", "proportion": 30, "candidates": None, "titles": list(titles),
        "teacher_rank": [None if title in ("Alien", "Nobody") else 4 for title in titles],
    }  # fmt: skip


def make_tables(root: Path) -> Path:
    """A folder of tables of three rows, with a page, curves, rollouts and Table 1."""
    evaluated(root, "v1", repeating)
    evaluated(root, "v2", repeating)
    for stage, head in (("teacher", "train/loss"), ("sl", "train/loss,validation/loss"), ("rl", "reward/total")):
        log = root / stage / "made" / "logs" / "attempt_0" / "metrics.csv"
        log.parent.mkdir(parents=True)
        lines = [f"{step}{f',{5 - step}' * head.count('/')}" for step in range(4)]
        log.write_text("\n".join([f"step,{head}", *lines]) + "\n")
    lines = [json.dumps(rollout(step, ("Clerks", "Nobody", "Ikiru"))) for step in range(3)]
    (root / "rl" / "made" / "rollouts.jsonl").write_text("\n".join(lines) + "\n")
    config, directory = evaluated(root, "full", good)
    folder = root / "tables" / f"{config.dataset.name}-{config.model.name}-{config.budget.name}"
    folder.mkdir(parents=True)
    (folder / "table1.csv").write_text("Dataset,Users\nfilms,4\nsteam (paper),12658\n")
    (folder / "table2.html").write_text("of an earlier version")
    assert report(config, directory) == folder
    return folder
