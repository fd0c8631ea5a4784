"""Put the page together: what stands in which section, and the template that holds it."""

import re
import shlex
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ctrlrec.reporting.comparisons import comparison_grid
from ctrlrec.reporting.families import grids
from ctrlrec.reporting.made import public_command, run_seed
from ctrlrec.reporting.page import figures
from ctrlrec.reporting.page.answer import answer
from ctrlrec.reporting.page.material import Material
from ctrlrec.reporting.page.shown import legend, shown_case, shown_table
from ctrlrec.reporting.paper import TABLES
from ctrlrec.reporting.render import Cell, Grid
from ctrlrec.reporting.tables import build
from ctrlrec.runtime.escaping import inert
from ctrlrec.runtime.files import write_text

NAME = "report.html"
COMMAND = ("ctrlrec", "report")
_PACKAGES = ("python", "torch", "transformers", "peft", "trl", "pytorch-lightning")  # of those recorded


@cache
def _templates() -> Environment:
    loader = PackageLoader("ctrlrec.reporting.page", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def write_page(material: Material, path: Path, again: Sequence[str]) -> Path:
    """Write the page, whole.

    Args:
        material: that it shows.
        path: of the file.
        again: words that make it again.
    """
    write_text(path, page(material, again))
    return path


def page(material: Material, again: Sequence[str]) -> str:
    """Return the page as HTML; every text of data, models and settings in it is escaped."""
    compared = comparison_grid(material.comparisons)
    reward_note, rewards = figures.rewards(material)
    parts: dict[str, Any] = {
        "tables": _tables(material),
        "forests": figures.forests(compared) if compared else [],
        "curves": figures.learning_curves(material),
        "rewards": rewards,
        "scatters": figures.scatters(material),
        "families": _families(material),
        "cases": [shown_case(case) for case in material.cases],
    }
    context = parts | {
        "title": inert(material.name),
        "sections": _sections(parts),
        "facts": _facts(material),
        "unlike": [inert(line) for line in material.unlike],
        "row_table": shown_table("rows", "Rows", _row_grid(material)),
        "answer": answer(material),
        "confidence": f"{100 * material.made[0]['confidence']:.0f}%",
        "paper_note": _paper_note(material),
        "comparison_table": shown_table("differences", "Differences", compared) if compared else None,
        "reward_note": reward_note,
        "varied": any(metrics.get("ILD@K") for row in material.rows for metrics in row.settings.values()),
        "marks": legend(),
        "reproduce_note": _reproduce_note(material),
        "commands": _commands(material),
        "again": inert(shlex.join(re.sub(r"^[/~].*/", "path/to/", word) for word in again)),
        "circumstances": _circumstances(material),
        "file_name": f"{inert(material.name)}.json",
        "numbers": _numbers(material),
    }
    return _templates().get_template("report.html").render(context)


def _sections(parts: dict[str, Any]) -> list[tuple[str, str]]:
    named = {
        "forests": ("comparisons", "Comparisons"),
        "curves": ("curves", "Learning curves"),
        "rewards": ("reward", "Reward"),
        "scatters": ("tradeoff", "Accuracy against control"),
        "families": ("families", "Beyond the paper"),
        "cases": ("cases", "Answers side by side"),
    }
    middle = [place for part, place in named.items() if parts[part]]
    first = [("run", "What was run"), ("answer", "The answer"), ("tables", "Tables")]
    return [*first, *middle, ("reproduce", "How to reproduce")]


def _distinct(values: Iterable[object]) -> str:
    return inert(", ".join(dict.fromkeys(str(value) for value in values if value is not None)))


def _facts(material: Material) -> list[tuple[str, str]]:
    made = material.made
    configs = [entry["config"] for entry in made if "config" in entry]
    facts = [
        ("Data set", _distinct(entry["dataset"] for entry in made)),
        ("Model", _distinct(config["model"]["name"] for config in configs)),
        ("Budget", _distinct(config["budget"]["name"] for config in configs)),
        ("Teacher", _distinct(config["teacher"]["name"] for config in configs)),
        ("Seeds", _distinct(sorted({run_seed(entry) for entry in made}))),
        ("Seeds of RL alone", _distinct(_seeds_of_rl(material))),
        ("Users asked", _distinct(sorted({entry["n"] for entry in made}))),
        ("Code", _distinct((entry["git_commit"] or "no commit")[:7] for entry in made)),
    ]
    return [(name, value) for name, value in facts if value]


def _seeds_of_rl(material: Material) -> list[int]:
    """Return the seeds of rows with RL if some differ from those of the runs, else nothing."""
    if all(entry["seed"] == run_seed(entry) for entry in material.made):
        return []
    return sorted({entry["seed"] for entry in material.made if material.variant(entry["row"]).get("rl")})


def _row_grid(material: Material) -> Grid:
    rows = []
    for row in material.rows:
        entries = [entry for entry in material.made if entry["row"] == row.name]
        seeds = ", ".join(str(entry["seed"]) for entry in entries)
        rows.append(((row.name, str(material.variant(row.name).get("description", ""))), (Cell(seeds),)))
    return Grid("", ("Row", "What it is"), (), ("Seeds",), tuple(rows))


def _tables(material: Material) -> list[Any]:
    tables = {number: build(number, material.rows, material.published) for number in TABLES} | dict(material.data)
    return [
        shown_table(f"table{number}", f"Table {number}.", grid)
        for number, grid in sorted(tables.items())
        if grid is not None
    ]


def _families(material: Material) -> list[tuple[str, Any, Any]]:
    """Return name, summary and comparisons of each family of metrics beside the paper's."""
    return [
        (
            inert(family.capitalize()),
            shown_table(f"family{place}", family.capitalize(), shown),
            shown_table(f"differences{place}", "Differences", compared) if compared else None,
        )
        for place, (family, (shown, compared)) in enumerate(grids(material.rows, material.comparisons).items())
    ]


def _paper_note(material: Material) -> str:
    if material.published:
        return "Rows marked (paper) are the paper's own, on the same data."
    return "The paper's rows of Tables 2 to 5 are of other data and are not shown beside these."


def _reproduce_note(material: Material) -> str:
    commits = [entry["git_commit"] for entry in material.made]
    if not all(commits):
        return "Some rows were made outside a checkout, so their numbers cannot be traced to a commit."
    if any(commit.endswith("-dirty") for commit in commits):
        return "These commands make the rows. Code marked -dirty had changes that no commit holds."
    return "These commands make the rows again, each with the code that made it."


def _commands(material: Material) -> list[str]:
    """Return the commands that made the rows, under the commit of their code."""
    by_commit: dict[str, dict[str, None]] = {}
    for entry in material.made:
        commands = by_commit.setdefault(inert(entry["git_commit"] or ""), {})
        commands[inert(public_command(entry["command"]) if entry["command"] else "# no command on record")] = None
    lines = []
    for commit, commands in by_commit.items():
        lines += [
            f"git checkout {commit}" if commit and not commit.endswith("-dirty") else f"# {commit or 'no commit'}"
        ]
        lines += commands
    return lines


def _circumstances(material: Material) -> str:
    made = material.made[-1]
    packages = made.get("packages") or {}
    versions = ", ".join(f"{name} {packages[name]}" for name in _PACKAGES if name in packages)
    machines = _distinct(
        f"{hardware.get('machine', '?')} with {hardware.get('cores', '?')} cores"
        + "".join(f", {accelerator}" for accelerator in hardware.get("accelerators") or ())
        for entry in material.made
        if (hardware := entry.get("hardware"))
    )
    seconds = sum(entry.get("wall_seconds") or 0 for entry in material.made)
    took = f"Made on {machines or 'an unrecorded machine'}; evaluations took {seconds:.0f} s together."
    return inert(f"{took} {versions}{'.' if versions else ''}")


def _numbers(material: Material) -> dict[str, Any]:
    return {
        "rows": [{name: entry[name] for name in ("row", "seed", "n", "settings")} for entry in material.made],
        "comparisons": [record for comparison in material.comparisons for record in comparison.records()],
    }
