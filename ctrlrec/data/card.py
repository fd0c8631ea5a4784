"""The data card: what is in a dataset and what was left out, as JSON, Markdown and a picture."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from rich.markdown import Markdown

from ctrlrec.data.catalogue import MIN_CATEGORY_ITEMS
from ctrlrec.data.lines import UNREADABLE_SHARE
from ctrlrec.data.sequences import MIN_SEQUENCE
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.escaping import inert, markdown_text

# Table 1 of the paper: users, items, interactions, sparsity.
TABLE_1 = {"amazon_movie": (13218, 18744, 744313, 0.9970), "steam": (12658, 8572, 632900, 0.9942)}
_COLUMNS = ("users", "items", "interactions", "sparsity")


def published_as(dataset: str, source: str) -> str | None:
    """Return which of the paper's data sets this is, so that tables can show its printed numbers; None for any other.

    Args:
        dataset: :func:`~ctrlrec.config.split.data_label` of it; the paper leaves the last two items out.
        source: name in ``dataset.source``; records of one's own may be called like one of the paper's.
    """
    return dataset if source != "records" and dataset in TABLE_1 else None


def save(report: dict[str, Any], directory: Path) -> None:
    """Write ``report.json``, ``card.md`` and ``card.png``.

    Args:
        report: of :func:`ctrlrec.data.prepare.prepare`.
        directory: an existing folder.

    Raises:
        CtrlRecError: if the folder cannot be written to.
    """
    try:
        (directory / "report.json").write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
        (directory / "card.md").write_text(markdown(report), encoding="utf-8")
        with matplotlib.rc_context({"font.size": 9}):
            figure(report).savefig(directory / "card.png", dpi=120)
    except OSError as error:
        raise CtrlRecError(f"{directory}: the data card cannot be written ({error})") from None


def show(report: dict[str, Any]) -> None:
    """Print the card."""
    console = Console(width=None if sys.stdout.isatty() else 120)  # a file needs no folding at 80
    console.print(Markdown(markdown(report)))


def _table_1(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return rows of Table 1: this dataset, and for one of the paper's two the printed line and the differences."""
    kept = report["kept"]
    mine = tuple(kept[name] for name in _COLUMNS)
    rows = [(report["dataset"], *map(_number, mine))]
    published = published_as(report["dataset"], report["source"])
    if published:
        printed = TABLE_1[published]
        rows.append(("paper, Table 1", *map(_number, printed)))
        pairs = zip(mine, printed, strict=True)
        gaps = (f"{a - b:+,}" if isinstance(a, int) else f"{100 * (a - b):+.2f} points" for a, b in pairs)
        rows.append(("difference", *gaps))
    return rows


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.2f}%"


def _spread(values: dict[str, Any]) -> str:
    return f"{values['min']} to {values['max']}, median {values['median']:g}, mean {values['mean']:.1f}"


def _shared(title: dict[str, Any] | None) -> str:
    """Return the title of the most items; nothing if a report was made before this was counted."""
    return f"{title['items']:,}, {title['interactions']:,} interactions: {title['title']}" if title else ""


def _times(times: dict[str, Any] | None) -> str:
    """Return the first and the last date; nothing if a report was made before these were kept."""
    if times is None:
        return ""
    if times["first"] is None:
        return "numbers that are not dates between 1973 and 2100; their order counts"
    return f"{times['first']} to {times['last']}"


def _split(split: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return the cuts of a split by time and what they leave; nothing for leave-one-out, which needs no numbers."""
    if split is None:
        return []
    parts, users = split["interactions"], split["users"]
    total = sum(parts.values())
    shares = ", ".join(f"{count:,} {part} ({count / total:.1%})" for part, count in parts.items())
    return [
        ("split", f"by time: validation from {split['validation_cut']} on, test from {split['test_cut']} on"),
        ("interactions on the sides of the cuts, before the k-core", shares),
        ("users of training, validation and test", ", ".join(f"{count:,} {part}" for part, count in users.items())),
        ("of the test, users who are not trained on", f"{split['users_only_tested']:,}"),
    ]


def facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of every line of the card below Table 1."""
    kept, titles, categories = report["kept"], report["titles"], report["kept"]["categories"]
    targets = kept["test_targets"]
    small = f"{categories['small']:,} of fewer than {MIN_CATEGORY_ITEMS} items"
    return [
        *_split(report.get("split")),
        ("interactions of a user", _spread(kept["sequence_length"])),
        ("items in a test history", _spread(kept["test_history_length"])),
        ("time of the interactions", _times(report.get("times"))),
        ("items that no user has in training", f"{kept['items_never_trained']:,}"),
        ("characters of a title", _spread(kept["title_length"])),
        ("titles cut", f"{titles['cut']:,}"),
        ("items merged into another with the same title", f"{titles['merged']:,}"),
        ("most items with one title", _shared(report.get("shared_title"))),
        ("titles with HTML entities, kept as they are", f"{titles['with_entities']:,}"),
        ("categories", f"{categories['count']:,} ({categories['kind']}), {small}"),
        ("items of a category", _spread(categories["size"])),
        ("categories of an item, or prefixes of its longest path", _spread(categories["depth"])),
        ("largest categories", ", ".join(f"{name} ({size})" for name, size in categories["largest"].items())),
        ("different test items", f"{targets['distinct_items']:,}"),
        ("categories that test items are in", f"{100 * targets['categories_covered']:.1f}%"),
        ("different target categories of test items", f"{targets['distinct_target_categories']:,}"),
        ("items of such a target category", _spread(targets["target_category_size"])),
    ]


def omissions(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """List what was left out, in the order of the rules: what, how many, where first."""
    core, lost = report["k_core"], report["unwritable"]
    rows = [(reason, f"{found['rows']:,}", ", ".join(found["first"])) for reason, found in report["skipped"].items()]
    rows += [
        (
            f"{what} that the backbone's tokenizer cannot write",
            f"{lost[what]['count']:,}",
            ", ".join(lost[what]["first"]),
        )
        for what in ("titles", "categories")
    ]
    rows.append(("items left out for these", f"{lost['items']:,}", ""))
    rows += [(reason, f"{count:,}", "") for reason, count in report["dropped"].items()]
    of = " of training" if "split" in report else ""
    limits = f"k-core{of} (users >= {core['users']}, items >= {core['items']}; {core['rounds']} rounds)"
    rows += [
        (f"{what} dropped by the {limits}", f"{core[f'{what}_dropped']:,}", "")
        for what in ("users", "items", "interactions")
    ]
    if core["users"] < MIN_SEQUENCE and "split" not in report:
        split = f"of these users, with fewer than the {MIN_SEQUENCE} interactions that the split takes"
        rows.append((split, f"{core['short_users']:,}", ""))
    return rows


def markdown(report: dict[str, Any]) -> str:
    """Return the card as Markdown."""
    read = report["read"]
    parts = [
        f"# {markdown_text(report['dataset'])}",
        _grid(("", *_COLUMNS), _table_1(report)),
        "## What is in it",
        _grid(("", ""), facts(report)),
        "## What was left out",
        f"Read: {read['interactions']:,} interactions of {read['users']:,} users; {read['items']:,} usable items.",
        _grid(("what", "how many", "first"), omissions(report)),
        f"Rows that cannot be read may be {UNREADABLE_SHARE:.0%} of a file; above that the file is refused. "
        "Left out by the method, whatever their number: items without a title or a category, items that no metadata "
        "describes, what is listed or happens again, and users and items with too few interactions.",
        "## Files",
        _grid(("file", "sha256"), [(file["name"], file["sha256"]) for file in report["files"]]),
    ]
    return "\n\n".join(parts) + "\n"


def _grid(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [" | ".join(map(markdown_text, line)) for line in (head, *rows)]
    lines.insert(1, " | ".join("---" for _ in head))
    return "\n".join(f"| {line} |" for line in lines)


def figure(report: dict[str, Any]) -> Figure:
    """Return two histograms over powers of two: interactions of a user, and items of a category."""
    kept = report["kept"]
    panels = (
        ("interactions of a user", "users", kept["sequence_length"]["powers_of_two"]),
        ("items of a category", "categories", kept["categories"]["size"]["powers_of_two"]),
    )
    drawing = Figure(figsize=(8, 3), layout="constrained")
    for axes, (across, up, counts) in zip(drawing.subplots(1, 2), panels, strict=True):
        first = next(power for power, count in enumerate(counts) if count)
        names = ["1" if power == 0 else f"{2**power}-{2 ** (power + 1) - 1}" for power in range(first, len(counts))]
        axes.bar(names, counts[first:], color="#4c72b0")
        axes.set(xlabel=across, ylabel=up)
        axes.tick_params(axis="x", rotation=45)
        axes.yaxis.get_major_locator().set_params(integer=True)
    drawing.suptitle(inert(report["dataset"]), parse_math=False)
    return drawing
