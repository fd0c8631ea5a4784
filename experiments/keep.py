"""Keeps a run's rendered tables beside their commands: ``python experiments/keep.py runs/tables/NAME [FOLDER]``.

Every ``tableN.*`` goes into ``experiments/tableN_*/NAME/``, and with it ``provenance.json``: per row the command,
commit, hardware, seed and number of users. The paper's numbers go beside them as ``published.md``.
"""

import json
import shutil
import sys
from pathlib import Path

from ctrlrec.errors import CtrlRecError
from ctrlrec.provenance import write_text
from ctrlrec.reporting.render import markdown
from ctrlrec.reporting.tables import TABLES, build, published_numbers, published_rows

HERE = Path(__file__).parent


def keep(tables: Path, experiments: Path) -> list[Path]:
    """Copy the tables of one folder; the folders they went to.

    Raises:
        CtrlRecError: where the folder holds no table or a row comes from an uncommitted change.
    """
    rows = tables / "rows.json"
    made = json.loads(rows.read_text(encoding="utf-8")) if rows.exists() else []
    for row in made:
        commit = row["git_commit"] or ""
        if not commit or commit.endswith("-dirty"):
            raise CtrlRecError(f"{tables}: row {row['row']} was made from '{commit}', no clean commit; run it again")
        # Where results lay is nobody's business but this machine's.
        row["command"] = " ".join(word for word in row["command"].split() if not word.startswith(("output=", "cache=")))
        row["upstream"] = {stage: entry["fingerprint"] for stage, entry in row["upstream"].items()}
    kept = []
    for target in sorted(experiments.glob("table[1-7]_*")):
        number = int(target.name[5])
        files = sorted(tables.glob(f"table{number}.*"))
        if number in TABLES:
            write_text(target / "published.md", published(number))
        if not files:
            continue
        folder = target / tables.name
        folder.mkdir(exist_ok=True)
        for file in [*files, *(sorted(tables.glob("comparisons.*")) if number in TABLES else [])]:
            shutil.copyfile(file, folder / file.name)
        if number in (*TABLES, 6):
            write_text(folder / "provenance.json", json.dumps(made, indent=2) + "\n")
        kept.append(folder)
    if not kept:
        raise CtrlRecError(f"{tables}: no tables there; expected a folder of runs/tables")
    return kept


def published(number: int) -> str:
    """The paper's two datasets of a table."""
    parts = [f"Table {number} as printed, rendered from ctrlrec/reporting/published.yaml.\n"]
    for dataset in published_numbers(f"table{number}"):
        grid = build(number, published_rows(number, dataset))
        assert grid is not None
        parts.append(f"## {dataset}\n\n{markdown(grid)}")
    return "\n".join(parts)


def main() -> int:
    try:
        for folder in keep(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE):
            print(folder)
    except CtrlRecError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
