"""The material of a page, gathered from finished evaluations or from the files of a kept grid."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ctrlrec.config.split import data_label
from ctrlrec.data.card import published_as
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.reporting.aggregate import Result, aggregate
from ctrlrec.reporting.cases import Case, judgement_of
from ctrlrec.reporting.comparisons import Comparison
from ctrlrec.reporting.figures import attempts, read_curves
from ctrlrec.reporting.made import Made, made
from ctrlrec.reporting.render import Cell, Grid
from ctrlrec.reporting.rows import Row, file_of, in_order
from ctrlrec.rewards.reward import Reward
from ctrlrec.runtime.files import read_jsonl

Curves = Mapping[tuple[str, int], Mapping[str, Mapping[int, float]]]  # {(row, seed): {column: {step: value}}}
TRAINED = ("teacher", "sl", "rl")  # stages with learning curves
_ITERATIONS = 60  # of RL whose answers are judged again for the parts of the reward


@dataclass(frozen=True)
class Material:
    """Everything that a page shows.

    Attributes:
        name: of the grid.
        made: how each row and seed was made (``rows.json``).
        rows: of the tables, in their order.
        comparisons: between the rows.
        published: the paper's data set whose printed rows may stand beside ours.
        curves: what each stage logged, by the first row that rests on it.
        rewards: parts of the reward by RL iteration.
        cases: of Table 6.
        data: Tables 1 and 7.
        unlike: how chosen rows differ in settings, in words; empty for rows of one grid.
    """

    name: str
    made: Sequence[Made]
    rows: Sequence[Row]
    comparisons: Sequence[Comparison] = ()
    published: str | None = None
    curves: Mapping[str, Curves] = field(default_factory=dict)
    rewards: Curves = field(default_factory=dict)
    cases: Sequence[Case] = ()
    data: Mapping[int, Grid] = field(default_factory=dict)
    unlike: Sequence[str] = ()

    def variant(self, row: str) -> Mapping[str, Any]:
        """Return what a row is: its variant as its result recorded it, else as its file says, else nothing."""
        recorded = [entry["config"]["variant"] for entry in self.made if entry["row"] == row and "config" in entry]
        if recorded:
            return recorded[-1]
        file = file_of(row)  # cannot be read within a run, whose rows are all recorded
        return vars(file) if file else {}


def of_results(
    name: str, results: Sequence[Result], comparisons: Sequence[Comparison], cases: Sequence[Case], folder: Path
) -> Material:
    """Return what is known of finished evaluations.

    Args:
        name: of the grid.
        results: at most one for a row and seed.
        comparisons: between them.
        cases: their answers to chosen users.
        folder: where ``table1.csv`` and ``table7.csv`` may lie.
    """
    first = results[0].config
    ordered = [result for row in in_order(result.row for result in results) for result in results
               if result.name == row.name and result.seed == row.seeds[0]]  # fmt: skip
    return Material(
        name,
        [made(result) for result in results],
        in_order(aggregate(results, first["evaluation"]["confidence"])),
        comparisons,
        published_as(data_label(first["dataset"]), first["dataset"]["source"]),
        {stage: _logged(ordered, stage) for stage in TRAINED},
        _rewards(ordered),
        cases,
        data_tables(folder),
        _unlike(ordered),
    )


def _unlike(results: Sequence[Result]) -> list[str]:
    """Return for each result that does not belong with one before it how the two differ."""
    found = []
    for place, other in enumerate(results):
        pairs = ((first, first.unlike(other.config) and other.unlike(first.config)) for first in results[:place])
        for first, why in pairs:
            if why:
                found.append(f"{other.name}, seed {other.seed}: {why}, unlike {first.name}, seed {first.seed}")
                break
    return found


def _stages(results: Sequence[Result], stage: str) -> dict[tuple[str, int], Result]:
    """Return for each result of a stage, by the first row and seed that rests on it, the evaluation of that row."""
    owners: dict[str, Result] = {}
    for result in results:
        if stage in result.upstream:
            owners.setdefault(result.upstream[stage]["fingerprint"], result)
    return {(result.name, result.seed): result for result in owners.values()}


def _logged(results: Sequence[Result], stage: str) -> Curves:
    found = {
        (str(owner.config["teacher"]["name"]) if stage == "teacher" else name, seed): read_curves(
            attempts(owner.input(stage))
        )
        for (name, seed), owner in _stages(results, stage).items()
    }
    return {place: columns for place, columns in found.items() if columns}


def _rewards(results: Sequence[Result]) -> Curves:
    found = {}
    for place, owner in _stages(results, "rl").items():
        rollouts = owner.input("rl") / "rollouts.jsonl"
        if rollouts.exists():
            catalogue = Catalogue.load(owner.input("data") / "catalogue.jsonl")
            found[place] = parts_of(rollouts, catalogue, Reward.of_run(owner.config["reward"]))
    return found


def parts_of(rollouts: Path, catalogue: Catalogue, reward: Reward) -> dict[str, dict[int, float]]:
    """Return the mean parts of an answer's reward, by iteration, of iterations spread evenly over RL.

    Args:
        rollouts: a file of answers (spec section 9).
        catalogue: that they are judged by.
        reward: of the run.
    """
    records = read_jsonl(rollouts)
    iterations = sorted({record["iteration"] for record in records})
    chosen = set(iterations[:: -(-len(iterations) // _ITERATIONS)]) | set(iterations[-1:])
    sums, counts = dict[str, dict[int, float]](), dict[int, int]()
    for record in records:
        if (iteration := record["iteration"]) in chosen:
            counts[iteration] = counts.get(iteration, 0) + 1
            for part, value in reward.parts(judgement_of(record, record["task"], catalogue)).items():
                of_part = sums.setdefault(part, {})
                of_part[iteration] = of_part.get(iteration, 0.0) + value
    return {
        part: {iteration: total / counts[iteration] for iteration, total in by_iteration.items()}
        for part, by_iteration in sums.items()
    }


def data_tables(folder: Path) -> dict[int, Grid]:
    """Return Tables 1 and 7 as far as a folder of tables holds them."""
    captions = {1: "The datasets", 7: "Instructions of one epoch"}
    grids = {}
    for number, caption in captions.items():
        path = folder / f"table{number}.csv"
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                (label, *heads), *lines = csv.reader(file)
            rows = tuple(((name,), tuple(Cell(text) for text in texts)) for name, *texts in lines)
            grids[number] = Grid(caption, (label,), (), tuple(heads), rows)
    return grids


def kept_curves(folder: Path) -> dict[str, Curves]:
    """Return the curves of a kept grid by stage (``curves-STAGE.parquet``)."""
    stages: dict[str, Curves] = {}
    for stage in TRAINED:
        path = folder / f"curves-{stage}.parquet"
        if path.exists():
            stages[stage] = {
                (str(row), int(seed)): _columns(table)  # type: ignore[call-overload]
                for (row, seed), table in pl.read_parquet(path).group_by("row", "seed", maintain_order=True)
            }
    return stages


def _columns(table: pl.DataFrame) -> dict[str, dict[int, float]]:
    columns = {}
    for name in table.columns:
        if name not in ("row", "seed", "step"):
            known = table.select("step", name).drop_nulls()
            if known.height:
                columns[name] = dict(zip(known["step"].to_list(), known[name].to_list(), strict=True))
    return columns
