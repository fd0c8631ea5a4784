"""The end of a run: tables, summary and page of all finished rows that belong together."""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from ctrlrec.config.compose import plain
from ctrlrec.config.schema import CasesConfig, Config
from ctrlrec.config.split import data_label
from ctrlrec.data.card import published_as
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting import render
from ctrlrec.reporting.aggregate import Result, aggregate, comparable, read_results
from ctrlrec.reporting.cases import Case, find_cases, write_cases
from ctrlrec.reporting.closing import closing
from ctrlrec.reporting.comparisons import comparison_grid, comparisons
from ctrlrec.reporting.families import pages, write_families
from ctrlrec.reporting.made import made
from ctrlrec.reporting.page.build import COMMAND, NAME, write_page
from ctrlrec.reporting.page.material import of_results
from ctrlrec.reporting.paper import TABLES
from ctrlrec.reporting.summary import summary
from ctrlrec.reporting.tables import build, write_grid, write_tables
from ctrlrec.runtime.files import write_text
from ctrlrec.runtime.results import finished

log = logging.getLogger(__name__)

_SUPERSEDED = ("table[167].html", "curves-*.png")  # which report.html shows


def report(config: Config, directory: Path, outdated: Callable[[Path], str] = lambda _: "") -> Path:
    """Write and print the tables of this evaluation and its finished siblings, and the page that shows all of it.

    Args:
        config: of the run.
        directory: its finished evaluation; siblings lie beside it.
        outdated: says why a finished evaluation is not what this code would make; such siblings are left out.

    Returns:
        The folder with ``report.html``, ``tableN.*``, ``summary.md``, ``comparisons.*`` and ``rows.json``.

    Raises:
        CtrlRecError: if ``cases.users`` names a user who was not asked; everything but the cases is written.
    """
    settings, evaluation = plain(config), config.evaluation
    folder = tables_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    # Rows of a sweep may end at the same time: who writes last must have read last, or the other's row is lost.
    with FileLock(f"{folder}.lock"):
        results = comparable(read_results(finished(directory.parent, "metrics.json")), settings, directory)
        results = [result for result in results if result.directory == directory or not _left_out(result, outdated)]
        rows = aggregate(results, evaluation.confidence)
        answer = summary(rows)
        found = comparisons(results, evaluation.bootstrap_resamples, evaluation.confidence, config.seed)
        compared = comparison_grid(found)
        published = published_as(data_label(config.dataset), config.dataset.source)
        written = write_tables(rows, folder, published=published)
        write_text(folder / "summary.md", render.markdown(answer))
        if compared is not None:
            written += write_grid(compared, folder / "comparisons")
            records = [record for comparison in found for record in comparison.records()]
            write_text(folder / "comparisons.json", json.dumps(records, indent=1))
            written.append(folder / "comparisons.json")
        written += write_families(rows, found, folder)
        patterns = ["comparisons[.-]*", *pages(), *(f"table{number}.*" for number in TABLES), *_SUPERSEDED]
        for left in {path for pattern in patterns for path in folder.glob(pattern)} - set(written):
            left.unlink()  # of rows that no longer belong here
        record, text = folder / "rows.json", json.dumps([made(result) for result in results], indent=2)
        changed = not record.exists() or record.read_text(encoding="utf-8") != text
        write_text(record, text)
        cases, refused = _cases(results, config.cases)
        if cases:
            write_cases(cases, folder)
        material = of_results(folder.name, results, found, cases, folder)
        write_page(material, folder / NAME, [*COMMAND, str(folder)])
        grids = {f"table{number}": build(number, rows) for number in TABLES} | {"summary": answer}
        if changed and config.logger.wandb != "disabled":
            from ctrlrec.reporting.track import track_report  # imports Lightning, which what is reused does without

            shown = {name: grid for name, grid in (grids | {"comparisons": compared}).items() if grid is not None}
            track_report(config, folder, shown, material)
        if refused:
            raise refused
    console = Console(width=None if sys.stdout.isatty() else 120)  # a file needs no folding at 80
    for grid in grids.values():
        if grid is not None:
            console.print(render.terminal(grid))
    log.info("%-12s done   %s", "tables", folder)
    (own,) = read_results([directory])
    catalogue = Catalogue.load(own.input("data") / "catalogue.jsonl")
    told = closing(own.name, directory / "predictions.jsonl", catalogue, folder, config.budget.following)
    console.print(told, markup=False, highlight=False, soft_wrap=True)
    return folder


def _cases(results: Sequence[Result], config: CasesConfig) -> tuple[list[Case], CtrlRecError | None]:
    """Return the cases, or the error that keeps them back: it must not keep back the tables."""
    try:
        return find_cases(results, config), None
    except CtrlRecError as error:
        return [], error


def _left_out(result: Result, outdated: Callable[[Path], str]) -> bool:
    """Return whether a row was made by other code, and log it: in one table it would pass for this code's."""
    why = outdated(result.directory)
    if why:
        log.info("%-12s not shown: %s, seed %d (%s): %s; stale=reuse shows it", "tables", result.name, result.seed,
                 result.directory.name, why)  # fmt: skip
    return bool(why)


def tables_folder(config: Config) -> Path:
    """Return the folder of the tables of runs on one data set, backbone and budget."""
    return Path(config.output) / "tables" / f"{data_label(config.dataset)}-{config.model.name}-{config.budget.name}"
