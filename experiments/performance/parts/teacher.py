"""The teacher against RecBole's SASRec: an epoch, the time to the best validation NDCG@10, and what that is worth."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Metric

from parts import world

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "experiments" / "teacher"))
METRICS = (
    Metric("seconds_an_epoch", "s", more=False),
    Metric("seconds_to_best", "s", more=False),
    Metric("seconds", "s", more=False),
    Metric("test_ndcg", "NDCG@10", target=1),
    Metric("peak_bytes", "bytes", more=False),
)
FULL = {"data": ["dataset=movielens_100k"], "epochs": None}
QUICK = {"data": ["dataset=movielens_100k"], "epochs": 1}


def prepare(scratch: Path, sizes: world.Sizes) -> None:
    world.directories(configured(scratch, sizes))


def configured(scratch: Path, sizes: world.Sizes) -> Any:
    data = list(sizes["data"])
    if "generated" in sizes:
        data += [f"dataset.path={world.generated(scratch, *sizes['generated'])}"]
    return world.compose(scratch, "stage=data", "budget=paper", "trainer.accelerator=cpu", *data)


def ours(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    from compare import ranks
    from pytorch_lightning.callbacks import Callback

    from ctrlrec.config.compose import typed
    from ctrlrec.data.catalogue import Catalogue
    from ctrlrec.data.sequences import Sequences
    from ctrlrec.runtime.hardware import prepare_hardware
    from ctrlrec.teacher.ranker import Ranker
    from ctrlrec.teacher.train import train_teacher

    config = configured(scratch, sizes)
    data = world.directories(config)["data"]
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    prepare_hardware(config.trainer)
    catalogue = Catalogue.load(data / "catalogue.jsonl")
    sequences = Sequences.load(data / "sequences.jsonl", catalogue, config.dataset.history_length)
    settings = typed(config.teacher)
    settings.max_epochs = sizes["epochs"] or settings.max_epochs
    validation: list[tuple[float, float]] = []
    test: list[float] = []

    class Clock(Callback):
        stopped = 0.0

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            now = time.monotonic()
            score = float(trainer.callback_metrics["validation/NDCG@10"])
            validation.append((now - started - self.stopped, score))
            test.append(mean(ranks(Ranker(module.model), sequences, "test")["nothing"], "NDCG@10"))
            module.train()
            self.stopped += time.monotonic() - now  # nobody who trains a teacher looks at the test items

    with tempfile.TemporaryDirectory() as name:
        started = time.monotonic()
        train_teacher(settings, config.trainer, catalogue, sequences, config.seed, Path(name), [], [Clock()])
        found = ranks(Ranker.load(Path(name)), sequences, "test")["nothing"]  # RecBole's rule: no item is left out
    return summarised(validation, found) | {"test_curve": [round(score, 5) for score in test]}


def recbole(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    python = Path(os.environ.get("PEERS", ROOT / ".venv-peers")) / "bin" / "python"
    script = ROOT / "experiments" / "teacher" / "recbole_sasrec.py"
    data = world.directories(configured(scratch, sizes))["data"]
    with tempfile.TemporaryDirectory() as name:
        result = Path(name) / "recbole.json"
        command = [str(python), str(script), str(data.resolve()), str(result)]
        command += ["--epochs", str(sizes["epochs"])] if sizes["epochs"] else []
        subprocess.run(command, check=True, cwd=name, stdout=subprocess.DEVNULL)
        made = json.loads(result.read_text(encoding="utf-8"))
    return summarised(made["validation"], made["ranks"]["test"]["nothing"])


def mean(places: list[int], metric: str) -> float:
    """HR@K or NDCG@K over users from 0-based ranks."""
    from compare import per_user

    return float(per_user(places, metric).mean())


def summarised(validation: Any, ranks: list[int]) -> dict[str, Any]:
    """Figures of one training from its (seconds since the start, validation NDCG@10) and its test ranks."""
    seconds, scores = zip(*validation, strict=True)
    return {
        "epochs": len(validation),
        "seconds": seconds[-1],
        "seconds_an_epoch": seconds[-1] / len(validation),
        "seconds_to_best": seconds[int(np.argmax(scores))],
        "validation_ndcg": max(scores),
        "test_ndcg": mean(ranks, "NDCG@10"),
        "test_hr": mean(ranks, "HR@10"),
        "validation": [[round(when, 3), round(score, 5)] for when, score in validation],
    }


def check(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """When ours first had the test accuracy at which the peer's training ended, in parts of the peer's time."""
    shares = []
    for our, their in zip(runs["ours"], runs["peer"], strict=True):
        reached = [place for place, score in enumerate(our.get("test_curve", ())) if score >= their["test_ndcg"]]
        shares += [round(our["validation"][reached[0]][0] / their["seconds"], 3)] if reached else []
    return {"the_peers_test_ndcg_reached_in_this_share_of_its_time,_aimed_at_0.1": shares} if shares else {}


SIDES = {"ours": ours, "peer": recbole}
