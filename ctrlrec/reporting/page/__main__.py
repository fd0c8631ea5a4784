"""Make ``report.html`` of finished runs: ``ctrlrec report runs/tables/NAME``."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from ctrlrec.config.schema import CasesConfig
from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting import kept
from ctrlrec.reporting.aggregate import read_results
from ctrlrec.reporting.cases import find_cases
from ctrlrec.reporting.comparisons import comparisons
from ctrlrec.reporting.made import results_of
from ctrlrec.reporting.page.build import COMMAND, NAME, write_page
from ctrlrec.reporting.page.material import Material, of_results
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.printing import command
from ctrlrec.runtime.results import finished


def gather(paths: Sequence[Path], users: Sequence[str] = ()) -> Material:
    """Return what a page of finished runs shows.

    Args:
        paths: folders of evaluations, of runs (all evaluations below them), or one folder of tables.
        users: whose answers are shown; empty for those that the runs chose.

    Raises:
        CtrlRecError: if a folder holds none of these, two evaluations are of one row and seed, or a user was not asked.
    """
    directories: list[Path] = []
    for path in paths:
        found = _evaluations(path)
        if not found and len(paths) == 1 and (path / "rows.json").exists():
            return kept.material(path)  # of results that are gone
        if not found:
            raise CtrlRecError(
                f"{path}: no finished evaluation there; give folders of runs/evaluate, a folder of runs/tables or runs"
            )
        directories += found
    results = read_results(dict.fromkeys(directories))
    config = results[0].config
    evaluation = config["evaluation"]
    chosen = CasesConfig(**config["cases"])
    if users:
        chosen = dataclasses.replace(chosen, users=list(users))
    compared = comparisons(results, evaluation["bootstrap_resamples"], evaluation["confidence"], results[0].run_seed)
    name = "-".join(config[group]["name"] for group in ("dataset", "model", "budget"))
    tables = next(
        (path for path in paths if (path / "rows.json").exists()),
        results[0].directory.absolute().parents[1] / "tables" / name,
    )
    return of_results(name, results, compared, find_cases(results, chosen), tables)


def _evaluations(path: Path) -> list[Path]:
    """Return the finished evaluations that a path stands for."""
    if (path / "metrics.json").exists():
        return [path]
    if (path / "rows.json").exists():
        return results_of(path)
    return finished(path, "metrics.json") or finished(path / "evaluate", "metrics.json")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's words."""
    words = argparse.ArgumentParser(prog=" ".join(COMMAND), description="Make one page that shows what runs found.")
    add = words.add_argument
    add("paths", nargs="+", type=Path, metavar="FOLDER", help="of runs/tables, of runs/evaluate, or runs")
    add("-o", "--output", type=Path, help=f"file to write; {NAME} in the folder of tables, else here")
    add("--user", action="append", default=[], metavar="ID", help="whose answers to show; may be repeated")
    return words


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: words of the command; None for those of the process.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    chosen = parser().parse_args(words)
    (folder, *others) = chosen.paths
    beside = folder if not others and (folder / "rows.json").exists() else Path()
    path = chosen.output or beside / NAME
    with explained(path):
        material = gather(chosen.paths, chosen.user)
        print(write_page(material, path, [*COMMAND, *words]))


if __name__ == "__main__":
    sys.exit(main())
