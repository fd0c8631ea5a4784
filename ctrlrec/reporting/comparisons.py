"""Is one row better than another, and how sure is that: paired bootstrap over the users that both were asked for."""

from collections.abc import Mapping, Sequence
from typing import Any

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.metrics import UserScores, mean_over_seeds, paired_differences, summarise
from ctrlrec.reporting.aggregate import Result
from ctrlrec.reporting.render import Cell, Grid
from ctrlrec.reporting.summary import lines_of
from ctrlrec.reporting.tables import ROW_ORDER, Column, averaged, kind, label, sizes
from ctrlrec.runtime.files import read_jsonl

# (row, the row it is to be better than): what each step of the method adds, and the whole method against the others
_STEPS = (("v1", "palr"), ("v2", "v1"), ("v3", "v2"), ("full", "v2"), ("full", "v3"))
_OTHERS = ("sasrec", "api", "zero_shot", "instructrec", "palr")
PAIRS = (*_STEPS, *(("full", other) for other in _OTHERS))


def comparisons(
    results: Sequence[Result], resamples: int, confidence: float, seed: int
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The differences of every pair of :data:`PAIRS` at hand, laid out as the rows of a table, with their ``seeds``.

    Rows of several seeds are compared seed by seed, the differences of a user are averaged over the seeds, and users
    are resampled; seeds are not. Only evaluations on one data set and one teacher make a pair.

    Args:
        results: evaluations of one table.
        resamples: of the users.
        confidence: of the intervals.
        seed: of the resampling.
    """
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    # A row that is not of the paper, beside the rows that it is most likely a change of.
    others = dict.fromkeys(kind(result.name) for result in results if kind(result.name) not in ROW_ORDER)
    for better, worse in (*PAIRS, *((name, base) for name in others for base in ("full", "v2"))):
        for other in dict.fromkeys(result.name for result in results if kind(result.name) == worse):
            pairs = [(a, b) for a in results for b in results if (a.name, b.name) == (better, other)]
            pairs = [(a, b) for a, b in pairs if _same_basis(a, b)]
            if pairs:
                scores = mean_over_seeds([_differences(a, b) for a, b in pairs])
                settings = {name: summarise(of.values, resamples, confidence, seed) for name, of in scores.items()}
                found[better, other] = {"settings": settings, "seeds": sorted(a.seed for a, _ in pairs)}
    return found


def comparison_grid(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> Grid | None:
    """One column a pair, one line a metric of a setting; None without a pair.

    The better row's number is bold where the interval of the difference leaves 0 out on the side that is better, and
    underlined where it does on the other side.
    """
    if not found:
        return None
    rows = [(f"{better} - {worse}", metrics) for (better, worse), metrics in found.items()]
    lines = []
    for labels, column in lines_of(rows):
        numbers = [column.cell(metrics) for _, metrics in rows]
        lines.append((labels, (*(_cell(column, number) for number in numbers), Cell(sizes(numbers)))))
    return Grid(
        caption="Differences between rows in percentage points, with the interval of a bootstrap over the n users that "
        f"both were asked for{', of their means over the seeds' if averaged(rows) else ''}. Bold: better beyond "
        "chance. Underlined: worse beyond chance.",
        labels=("Setting", "Metric"),
        groups=(),
        heads=(*map(label, rows), "n"),
        rows=tuple(lines),
    )


def _same_basis(a: Result, b: Result) -> bool:
    stages = ("data", "teacher")
    return a.seed == b.seed and all(
        a.upstream[stage]["fingerprint"] == b.upstream[stage]["fingerprint"] for stage in stages
    )


def _differences(a: Result, b: Result) -> dict[str, UserScores]:
    catalogue = Catalogue.load(a.input("data") / "catalogue.jsonl")
    first, second = (read_jsonl(result.directory / "predictions.jsonl") for result in (a, b))
    return paired_differences(first, second, catalogue)


def _cell(column: Column, number: Mapping[str, float] | None) -> Cell:
    if number is None:
        return Cell()
    low, high = number["low"], number["high"]
    good, bad = (high < 0, low > 0) if column.falling else (low > 0, high < 0)
    interval = f"[{100 * low:+.1f}, {100 * high:+.1f}]"
    return Cell(f"{100 * number['value']:+.1f}", "", interval, "best" if good else "second" if bad else "")
