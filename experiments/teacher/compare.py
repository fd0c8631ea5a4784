"""Train this project's teacher on a finished data stage and set it beside RecBole's SASRec on the same users.

    python -m ctrlrec stage=data
    python experiments/teacher/compare.py runs/data/<name> --recbole recbole.json

``recbole.json`` comes from recbole_sasrec.py beside this file. Both models answer the same question for every user: the
rank of the held-out item among all items, once without those of the shown history (this project's rule) and once with
nothing excluded (RecBole's own rule). Writes result.json beside this file and the tables of README.md.
"""

import argparse
import json
import logging
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from ctrlrec.config.compose import compose
from ctrlrec.config.schema import Config
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.sequences import Sequences
from ctrlrec.runtime import files, provenance
from ctrlrec.teacher.ranker import Ranker, ranks_of
from ctrlrec.teacher.train import train_teacher

HERE = Path(__file__).resolve().parent
RESAMPLES, CONFIDENCE = 10_000, 95
HARDWARE = ("trainer.accelerator=cpu", "trainer.progress=false")
RULES = ("history", "nothing")  # what is excluded from the candidates


def settings(name: str) -> Config:
    return compose(f"teacher={name}", "budget=paper", *HARDWARE)


def ranks(ranker: Ranker, sequences: Sequences, split: str) -> dict[str, list[int]]:
    histories, targets = zip(*(getattr(sequences, split)(user) for user in range(len(sequences))), strict=True)
    excluding, everything = ranker.scores(histories), ranker.model.scores_after(histories)
    wanted = [[int(target)] for target in targets]
    return {
        "history": [rank for (rank,) in ranks_of(excluding, wanted)],
        "nothing": [rank for (rank,) in ranks_of(everything, wanted)],
    }


def per_user(places: list[int], metric: str) -> np.ndarray:
    kind, k = metric.split("@")
    found = np.asarray(places)
    gain = 1.0 if kind == "HR" else 1 / np.log2(found + 2)
    return np.where(found < int(k), gain, 0.0)


def interval(values: np.ndarray) -> dict[str, float]:
    """Mean over users with a percentile bootstrap interval."""
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return {"value": round(float(values.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def train(name: str, seeds: list[int], catalogue: Catalogue, sequences: Sequences) -> list[dict]:
    config = settings(name)
    runs = []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            wall, processor = time.monotonic(), time.process_time()
            made = train_teacher(config.teacher, config.trainer, catalogue, sequences, seed, Path(folder), [], [])
            run = {
                "seed": seed, "epochs": made["epochs"], "best_epoch": made["best_epoch"],
                "seconds": round(time.monotonic() - wall, 1),
                "processor_seconds": round(time.process_time() - processor, 1),
            }  # fmt: skip
            ranker = Ranker.load(Path(folder))
            run["parameters"] = sum(weight.numel() for weight in ranker.model.parameters())
            run["ranks"] = {split: ranks(ranker, sequences, split) for split in ("validation", "test")}
        print(name, {key: value for key, value in run.items() if key != "ranks"}, flush=True)
        runs.append(run)
    return runs


def summarise(runs: list[dict], reference: list[dict] | None) -> dict:
    """Metrics of a user averaged over seeds, then over users; differences to the reference are paired by user."""
    summary: dict = {"runs": [{key: value for key, value in run.items() if key != "ranks"} for run in runs]}
    for split in ("validation", "test"):
        for rule in RULES:
            cells = summary.setdefault(split, {}).setdefault(rule, {})
            for metric in ("HR@5", "NDCG@5", "HR@10", "NDCG@10"):
                of_user = np.mean([per_user(run["ranks"][split][rule], metric) for run in runs], axis=0)
                cells[metric] = interval(of_user)
                cells[metric]["of_seeds"] = [
                    round(float(per_user(run["ranks"][split][rule], metric).mean()), 4) for run in runs
                ]
                if reference:
                    other = np.mean([per_user(run["ranks"][split][rule], metric) for run in reference], axis=0)
                    cells[metric]["minus_recbole"] = interval(of_user - other)
    return summary


def table(results: dict, rule: str) -> str:
    def cell(entry: dict) -> str:
        return f"{entry['value']:.4f} [{entry['low']:.4f}, {entry['high']:.4f}]"

    lines = ["| model | seeds | epochs | parameters | processor seconds | HR@10 | NDCG@10 | NDCG@10 minus RecBole |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, summary in results.items():
        runs, cells = summary["runs"], summary["test"][rule]
        difference = cells["NDCG@10"].get("minus_recbole")
        columns = [
            name, ", ".join(str(run["seed"]) for run in runs), ", ".join(str(run["epochs"]) for run in runs),
            f"{runs[0]['parameters']:,}", ", ".join(f"{run['processor_seconds']:.0f}" for run in runs),
            cell(cells["HR@10"]), cell(cells["NDCG@10"]), cell(difference) if difference else "",
        ]  # fmt: skip
        lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="directory of a finished data stage")
    parser.add_argument("--recbole", type=Path, nargs="+", required=True, help="results of recbole_sasrec.py")
    parser.add_argument("--teachers", nargs="+", default=["sasrec", "released"], help="choices of conf/teacher")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # so that processor seconds are those of the work, not of waiting threads
    torch.set_float32_matmul_precision("medium")
    catalogue = Catalogue.load(arguments.data / "catalogue.jsonl")
    sequences = Sequences.load(arguments.data / "sequences.jsonl", catalogue, 10)
    recbole = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.recbole]
    if any((run["users"], run["items"]) != (len(sequences), len(catalogue)) for run in recbole):
        parser.error("the RecBole results are of other data")
    results = {"RecBole 1.2.1 SASRec": summarise(recbole, None)}
    for name in arguments.teachers:
        runs = train(name, arguments.seeds, catalogue, sequences)
        results[f"teacher={name}"] = summarise(runs, recbole)
    record = {
        "command": "python experiments/teacher/compare.py runs/data/<name> --recbole recbole.json "
        f"--teachers {' '.join(arguments.teachers)} --seeds {' '.join(map(str, arguments.seeds))}",
        **provenance.circumstances(),
        "users": len(sequences), "items": len(catalogue), "interactions": len(sequences.items),
        "resamples": RESAMPLES, "confidence": CONFIDENCE,
        "results": results,
    }  # fmt: skip
    files.write_text(HERE / "result.json", json.dumps(record, indent=1))
    text = (HERE / "README.md").read_text(encoding="utf-8")
    for rule in RULES:
        begin, end = f"<!-- {rule} -->\n", f"\n<!-- /{rule} -->"
        before, _, rest = text.partition(begin)
        text = before + begin + table(results, rule) + end + rest.partition(end)[2]
    files.write_text(HERE / "README.md", text)


if __name__ == "__main__":
    main()
