"""Copies what a run left into this folder.

``collect.py runs/sl/NAME sl-v2-seed0``: the logged curves of a stage and their provenance.
``collect.py runs/tables/NAME``: summary, comparisons and figures; ``../keep.py`` keeps how each row was made.
"""

import csv
import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
KEPT = ("git_commit", "packages", "hardware", "seed", "wall_seconds", "peak_memory_bytes")


def tables(folder: Path) -> None:
    for pattern in ("summary.md", "comparisons.md", "curves-*.png"):
        for file in folder.glob(pattern):
            shutil.copyfile(file, HERE / file.name)


def curves(stage: Path, name: str) -> None:
    rows = {}
    for log in sorted(stage.glob("logs/attempt_*/metrics.csv")):  # a later attempt replaces the steps it repeats
        with log.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows[row["step"], row.get("validation/loss", "") != ""] = row
    columns = sorted({column for row in rows.values() for column in row} - {"epoch", "step"})
    with (HERE / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", *columns], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for row in rows.values():
            writer.writerow({key: f"{float(value):.5g}" for key, value in row.items() if value} | {"step": row["step"]})
    record = HERE / "provenance.json"
    entries = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    finished = stage / "provenance.json"
    entry = {"stage": json.loads((stage / "stage.json").read_text(encoding="utf-8")), "finished": finished.exists()}
    if finished.exists():
        made = json.loads(finished.read_text(encoding="utf-8"))
        entry |= {key: made[key] for key in KEPT}
        entry["command"] = [word for word in made["command"].split() if not word.startswith("output=")]
    entries[name] = entry
    record.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    curves(Path(sys.argv[1]), sys.argv[2]) if len(sys.argv) == 3 else tables(Path(sys.argv[1]))
