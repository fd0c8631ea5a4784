"""How long ``--help`` and a run that finds everything made take, beside importing the libraries alone."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measuring import Metric

from parts import world

ROOT = Path(__file__).resolve().parents[3]
METRICS = (Metric("help_seconds", "s", more=False, aim=2), Metric("cached_seconds", "s", more=False, aim=6))
FULL = {"row": ["variant=full", "sl.max_steps=2", "rl.iterations=1", "rl.warmup_iterations=0", "rl.prompts=2",
                "evaluation.users=2", "generation.max_new_tokens=16", "model.max_response_length=64"]}  # fmt: skip
QUICK = {"row": ["variant=sasrec", "evaluation.users=2"]}
IMPORTS = "import torch, transformers, peft, trl, pytorch_lightning"


def command(scratch: Path, sizes: world.Sizes) -> list[str]:
    fixed = [f"output={scratch}/runs", "logger=csv", "trainer.progress=false", "trainer.accelerator=cpu"]
    return [sys.executable, "-m", "ctrlrec", *fixed, *sizes["row"]]


def prepare(scratch: Path, sizes: world.Sizes) -> None:
    subprocess.run(command(scratch, sizes), check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def timed(words: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def ours(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    shown = timed([sys.executable, "-m", "ctrlrec", "--help"])
    return {"help_seconds": shown, "cached_seconds": timed(command(scratch, sizes))}


def imports(scratch: Path, sizes: world.Sizes) -> dict[str, Any]:
    seconds = timed([sys.executable, "-c", IMPORTS])
    return {"help_seconds": seconds, "cached_seconds": seconds}


SIDES = {"ours": ours, "peer": imports}
