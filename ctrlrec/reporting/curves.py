"""Learning curves that are kept: what SL and RL logged, one line a step, for all rows and seeds of a grid."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ctrlrec.reporting.figures import PANELS, attempts, read_curves

_KEY = ("row", "seed", "step")


def keep(made: Sequence[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Add the curves of rows to ``curves-sl.parquet`` and ``curves-rl.parquet``.

    Rows that share a stage share its curves, under the name of the first of them. A deleted stage is left out.

    Args:
        made: entries of ``rows.json`` as a run leaves them, with the directories of their stages.
        rows: entries of all rows kept, in the order of the tables.
        folder: of the grid.

    Raises:
        CtrlRecError: if a log is not a table of numbers.
    """
    owners: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        for stage in PANELS:
            owners.setdefault((stage, row["upstream"].get(stage, "")), row)
    for stage in PANELS:
        frames = {}
        for row in made:
            upstream = row["upstream"].get(stage)
            logs = attempts(Path(upstream["directory"])) if upstream else []
            if logs:
                owner = owners[stage, upstream["fingerprint"]]
                frames[owner["row"], owner["seed"]] = read_curves(logs)
        if frames:
            write(folder / f"curves-{stage}.parquet", frames)


def write(path: Path, curves: Mapping[tuple[str, int], Mapping[str, Mapping[int, float]]]) -> None:
    """Put curves ``{(row, seed): {metric: {step: value}}}`` in place of those of the same rows and seeds."""
    tables = []
    if path.exists():
        known = pl.read_parquet(path)
        names = pl.DataFrame(list(curves), schema={"row": pl.String, "seed": pl.Int64}, orient="row")
        tables.append(known.join(names, on=["row", "seed"], how="anti"))
    for (row, seed), columns in curves.items():
        steps = sorted({step for values in columns.values() for step in values})
        values = {name: [of.get(step) for step in steps] for name, of in sorted(columns.items())}
        schema = {"step": pl.Int64, **dict.fromkeys(values, pl.Float32)}
        table = pl.DataFrame({"step": steps, **values}, schema=schema)
        tables.append(table.select(pl.lit(row).alias("row"), pl.lit(seed, pl.Int64).alias("seed"), pl.all()))
    together = pl.concat(tables, how="diagonal").sort(_KEY)
    temporary = path.with_name(path.name + ".tmp")
    together.write_parquet(temporary, compression="zstd", compression_level=19)
    temporary.replace(path)
