"""Copies what a run left into this folder.

``collect.py runs/sl/NAME sl-v2-seed0``: the logged curves of a stage and their provenance.
``collect.py runs/tables/NAME``: summary, comparisons and figures; ``../keep.py`` keeps how each row was made.
``--to`` names another folder, for another budget.
"""

import argparse
import csv
import json
import shutil
from pathlib import Path

from ctrlrec.runtime.provenance import check_committed

HERE = Path(__file__).parent
KEPT = ("git_commit", "packages", "hardware", "seed", "wall_seconds", "peak_memory_bytes")


def tables(folder: Path, to: Path) -> None:
    for pattern in ("summary.md", "comparisons.md", "curves-*.png"):
        for file in folder.glob(pattern):
            shutil.copyfile(file, to / file.name)


def curves(stage: Path, name: str, to: Path) -> None:
    rows = {}
    for log in sorted(stage.glob("logs/attempt_*/metrics.csv")):  # a later attempt replaces the steps it repeats
        with log.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows[row["step"], row.get("validation/loss", "") != ""] = row
    columns = sorted({column for row in rows.values() for column in row} - {"epoch", "step"})
    with (to / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", *columns], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in rows.values():
            writer.writerow({key: f"{float(value):.5g}" for key, value in row.items() if value} | {"step": row["step"]})
    record = to / "provenance.json"
    entries = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    finished = stage / "provenance.json"
    entry = {"stage": json.loads((stage / "stage.json").read_text(encoding="utf-8")), "finished": finished.exists()}
    if finished.exists():
        made = json.loads(finished.read_text(encoding="utf-8"))
        check_committed(made, str(stage))
        entry |= {key: made[key] for key in KEPT}
        entry["command"] = [word for word in made["command"].split() if not word.startswith("output=")]
    entries[name] = entry
    record.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("name", nargs="?")
    parser.add_argument("--to", type=Path, default=HERE)
    told = parser.parse_args()
    told.to.mkdir(exist_ok=True)
    curves(told.source, told.name, told.to) if told.name else tables(told.source, told.to)
