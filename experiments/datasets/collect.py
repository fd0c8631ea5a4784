"""The numbers of runs over several datasets: their data cards and their metrics, with how each was made.

    python experiments/datasets/collect.py RUNS

reads RUNS/data and RUNS/evaluate and writes, beside this file, cards.json and cards.md, and of every dataset evaluated
there results/NAME.json and results/NAME.md. What is here of other datasets stays. Numbers only: no user, title or
category of a dataset is copied.
"""

import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ctrlrec.data import card
from ctrlrec.reporting import render
from ctrlrec.reporting.aggregate import Result, aggregate, comparable, read_results
from ctrlrec.reporting.summary import summary
from ctrlrec.runtime.files import write_text
from ctrlrec.runtime.provenance import check_committed
from ctrlrec.runtime.results import finished, made_from

HERE = Path(__file__).parent
KEPT = ("git_commit", "packages", "hardware", "seed", "wall_seconds", "peak_memory_bytes")


def main() -> None:
    runs = Path(sys.argv[1])
    cards = json.loads((HERE / "cards.json").read_text(encoding="utf-8"))
    cards |= {report["dataset"]: report for report in map(read_card, by_age(finished(runs / "data", "report.json")))}
    save("cards", cards, card_table(cards))
    by_dataset: dict[str, list[Result]] = {}
    for result in read_results(by_age(finished(runs / "evaluate", "metrics.json"))):
        by_dataset.setdefault(result.config["dataset"]["name"], []).append(result)
    for dataset, results in by_dataset.items():
        numbers = {result.directory.name: evaluation(result) for result in results}
        save(f"results/{dataset}", numbers, result_table(dataset, results))


def by_age(directories: Iterable[Path]) -> list[Path]:
    """In the order of making, so that of two with one name the later counts."""
    return sorted(directories, key=lambda path: path.stat().st_mtime)


def save(name: str, numbers: dict[str, Any], page: str) -> None:
    write_text(HERE / f"{name}.json", json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
    write_text(HERE / f"{name}.md", page)


def made(directory: Path) -> dict[str, Any]:
    """What ``provenance.json`` says except for where things lie on this machine.

    Raises:
        CtrlRecError: if the result comes from an uncommitted change.
    """
    provenance = json.loads((directory / "provenance.json").read_text(encoding="utf-8"))
    check_committed(provenance, str(directory))
    words = [word for word in shlex.split(provenance["command"]) if not word.startswith(("output=", "cache="))]
    shown = [f"dataset.path={Path(word).name}" if word.startswith("dataset.path=") else word for word in words]
    return {"command": " ".join(shown)} | {key: provenance[key] for key in KEPT}


def read_card(directory: Path) -> dict[str, Any]:
    report = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    report["kept"]["categories"]["largest"] = {}  # names, as the next three are
    report["shared_title"]["title"] = ""
    for what in ("titles", "categories"):
        report["unwritable"][what]["first"] = []
    return report | {"made": made(directory)}


def card_table(cards: dict[str, dict[str, Any]]) -> str:
    """One column a dataset, one line a number of its card."""
    columns = {name: dict(card_lines(report)) for name, report in cards.items()}
    names = list(dict.fromkeys(line for column in columns.values() for line in column))
    rows = [(line, *(column.get(line, "-") for column in columns.values())) for line in names]
    text = "\n".join(f"| {' | '.join(row)} |" for row in (("", *columns), ("---",) * (len(columns) + 1), *rows))
    return f"# Data cards\n\nHow each was made, with versions and hardware, is in cards.json.\n\n{text}\n"


def card_lines(report: dict[str, Any]) -> Iterable[tuple[str, str]]:
    kept, core = report["kept"], report["k_core"]
    yield from ((name, f"{kept[name]:,}") for name in ("users", "items", "interactions"))
    yield "sparsity", f"{100 * kept['sparsity']:.2f}%"
    yield from ((name, value) for name, value in card.facts(report) if value)
    yield from ((f"{name} read", f"{count:,}") for name, count in report["read"].items())
    yield from ((reason, f"{count:,}") for reason, count in report["dropped"].items())
    yield "k-core (users, items; rounds)", f"{core['users']}, {core['items']}; {core['rounds']}"
    for what in ("users", "items", "interactions"):
        yield f"{what} dropped by it", f"{core[f'{what}_dropped']:,}"
    yield "peak memory (GB)", f"{report['made']['peak_memory_bytes'] / 1e9:.2f}"
    yield from ((reason, f"{found['rows']:,}") for reason, found in report["skipped"].items())


def evaluation(result: Result) -> dict[str, Any]:
    """Metrics, how they were made, and the seconds of every stage they rest on."""
    stages = made_from(result.directory, result.upstream)
    seconds = {need: made(directory)["wall_seconds"] for need, directory in stages.items()}
    return {"made": made(result.directory), "upstream_seconds": seconds, "settings": result.metrics["settings"]}


def result_table(dataset: str, results: list[Result]) -> str:
    """Of runs that cannot stand in one table, the newest and what goes with it."""
    last = results[-1]
    rows = aggregate(comparable(results, last.config, last.directory), last.config["evaluation"]["confidence"])
    how = f"How each row was made, with versions, hardware and seconds, is in {dataset}.json."
    return f"# {dataset}\n\n{how}\n\n{render.markdown(summary(rows)).strip()}\n"


if __name__ == "__main__":
    main()
