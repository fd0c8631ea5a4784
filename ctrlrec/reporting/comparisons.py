"""Is one row better than another, and how sure is that: paired differences over users, and over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctrlrec.data.catalogue import Catalogue
from ctrlrec.evaluation.intervals import DIFFERENCE, holm, mean_of_seeds, p_value, with_spread
from ctrlrec.evaluation.metrics import families, limits_of
from ctrlrec.evaluation.scoring import UserScores, mean_over_seeds, paired_differences, summarise_differences
from ctrlrec.reporting.aggregate import Result, answers_under
from ctrlrec.reporting.columns import Column, Notes, sizes
from ctrlrec.reporting.render import Cell as Shown
from ctrlrec.reporting.render import Grid, Mark
from ctrlrec.reporting.rows import Row, averaged, in_order, kind, note_of
from ctrlrec.reporting.summary import lines_of
from ctrlrec.runtime.files import read_jsonl

Cells = dict[str, dict[str, Any]]  # {setting: {metric: cell}}


@dataclass(frozen=True)
class Comparison:
    """The differences between two rows.

    Attributes:
        better: the row that is to be better.
        worse: the other one.
        by_seed: cells over users, ``{seed: {setting: {metric: cell}}}``.
        settings: cells over users and seeds; ``p`` is the p-value of no difference.
        confidence: of all intervals.
        of_rl: whether the seeds are those of RL alone.
    """

    better: str
    worse: str
    by_seed: Mapping[int, Mapping[str, Any]]
    settings: Mapping[str, Any]
    confidence: float
    of_rl: bool = False

    @property
    def row(self) -> Row:
        """Return the differences laid out as a row of a table."""
        return Row(f"{self.better} - {self.worse}", self.settings, tuple(self.by_seed), of_rl=self.of_rl)

    def records(self) -> list[dict[str, Any]]:
        """Return one entry of ``comparisons.json`` a seed, with the metrics that pages show."""
        shown = [(column.setting, column.name) for family in families() for _, column in lines_of([self.row], family)]
        records = []
        for seed, settings in self.by_seed.items():
            cells: Cells = {}
            for setting, name in shown:
                if name in settings.get(setting, {}):
                    cells.setdefault(setting, {})[name] = settings[setting][name]
            entry = {"better": self.better, "worse": self.worse, "seed": seed, "confidence": self.confidence}
            records.append(entry | ({"of_rl": True} if self.of_rl else {}) | {"settings": cells})
        return records


def comparisons(results: Sequence[Result], resamples: int, confidence: float, seed: int) -> list[Comparison]:
    """Return the differences of each given row to those that its variant's file compares it with.

    Rows under a constraint are compared with rows under the same one, and with their own variant without it.

    Rows of several seeds are compared seed by seed. Users are resampled with the mean of their differences over the
    seeds, and the interval is widened by the spread of the seeds' means. Only evaluations on one data set and one
    teacher make a pair. A row without RL is compared with every seed of RL.

    Args:
        results: evaluations of one table.
        resamples: of the users.
        confidence: of the intervals.
        seed: of the resampling.
    """
    found = []
    names = dict.fromkeys(row.name for row in in_order(result.row for result in results))
    by_name = {result.name: result for result in results}
    for better in names:
        bases = by_name[better].row.place.compared_with
        for base in dict.fromkeys([kind(better), *bases]):
            for worse in (name for name in names if kind(name) == base and _told_apart(by_name[better], by_name[name])):
                named = [(a, b) for a in results for b in results if (a.name, b.name) == (better, worse)]
                pairs = [(a, b) for a, b in named if _same_basis(a, b)]
                parts = {(a if _has_rl(a) else b).seed: _differences(a, b) for a, b in pairs}
                if parts:
                    resampled = (resamples, confidence, seed)
                    by_seed = {number: summarise_differences(parts[number], *resampled) for number in sorted(parts)}
                    users = summarise_differences(mean_over_seeds(list(parts.values())), *resampled)
                    settings = _with_seeds(users, by_seed, confidence)
                    of_rl = any(a.own_rl_seed or b.own_rl_seed for a, b in pairs)
                    found.append(Comparison(better, worse, by_seed, settings, confidence, of_rl))
    return found


def pooled(records: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Return comparisons from entries of ``comparisons.json``, in the order in which pairs first occur.

    Users are not in these entries. Their part of an interval over several seeds is the mean distance from a seed's
    value to the end of its interval, which is never too narrow.
    """
    pairs: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for record in records:
        pairs.setdefault((record["better"], record["worse"]), {})[record["seed"]] = record
    found = []
    for (better, worse), by_seed in pairs.items():
        confidence = next(iter(by_seed.values()))["confidence"]
        cells = {seed: by_seed[seed]["settings"] for seed in sorted(by_seed)}
        users: Cells = {}
        first, *others = cells.values()
        for setting, metrics in first.items():
            for name in metrics:
                seeds = [settings[setting][name] for settings in cells.values() if name in settings.get(setting, {})]
                if len(seeds) == 1 + len(others):
                    users.setdefault(setting, {})[name] = mean_of_seeds(seeds) | note_of(seeds)
        of_rl = any(record.get("of_rl", False) for record in by_seed.values())
        found.append(Comparison(better, worse, cells, _with_seeds(users, cells, confidence), confidence, of_rl))
    return found


def _with_seeds(users: Mapping[str, Any], by_seed: Mapping[int, Mapping[str, Any]], confidence: float) -> Cells:
    """Widen cells over users by the spread of the seeds, and add the p-value of no difference."""
    settings: Cells = {}
    for setting, cells in users.items():
        for name, cell in cells.items():
            values = [seed[setting][name]["value"] for seed in by_seed.values()]
            limits = DIFFERENCE if limits_of(setting, name) else None
            wide: dict[str, Any] = with_spread(cell, values, confidence, limits)
            settings.setdefault(setting, {})[name] = wide | {"p": p_value(cell, values, confidence)}
    return settings


def beyond_chance(found: Sequence[Comparison], family: str = "") -> set[tuple[Column, str]]:
    """Return which differences are sure after Holm's correction over all that a grid shows: column and pair."""
    if not found:
        return set()
    p_values = _p_values([comparison.row for comparison in found], family)
    sure = holm(list(p_values.values()), 1 - found[0].confidence)
    return {place for place, kept in zip(p_values, sure, strict=True) if kept}


def _p_values(rows: Sequence[Row], family: str) -> dict[tuple[Column, str], float]:
    """Return the p-value of every difference that a grid shows, by column and pair."""
    columns = [column for _, column in lines_of(rows, family)]
    return {(column, row.name): cell["p"] for column in columns for row in rows if (cell := column.cell(row))}


def comparison_grid(found: Sequence[Comparison], family: str = "") -> Grid | None:
    """Return one column a pair, one line a metric of a setting; None without a pair, or a metric of the family.

    A number is bold if the first row is better beyond chance and underlined if it is worse, both after Holm's
    correction over all differences of the grid. The intervals shown are not corrected.

    Args:
        found: of the pairs.
        family: of the metrics shown.
    """
    rows = [comparison.row for comparison in found]
    columns = lines_of(rows, family)
    if not found or (family and not columns):
        return None
    level = 1 - found[0].confidence
    p_values = _p_values(rows, family)
    beyond = beyond_chance(found, family)
    notes = Notes()
    lines = []
    for labels, column in columns:
        numbers = [column.cell(row) for row in rows]
        cells = [
            _shown(column, number, (column, row.name) in beyond, notes)
            for row, number in zip(rows, numbers, strict=True)
        ]
        lines.append((labels, (*cells, Shown(sizes(numbers)))))
    widened = ", widened by the spread of the seeds where there are several" if averaged(rows) else ""
    return Grid(
        caption=f"Differences between rows in percentage points, with the {100 * (1 - level):.0f}% interval over the n "
        f"users that both were asked for{widened}. Of these {len(p_values)} intervals about "
        f"{level * len(p_values):.0f} would leave out 0 by chance alone, {sum(p < level for p in p_values.values())} "
        f"do. Bold: better, underlined: worse after Holm's correction over all {len(p_values)}, which leaves "
        f"{len(beyond)}.",
        labels=("Setting", "Metric"),
        groups=(),
        heads=(*(row.label for row in rows), "n"),
        rows=tuple(lines),
        notes=notes.lines,
    )


def _told_apart(better: Result, worse: Result) -> bool:
    """Return whether a difference is due to the variant alone or to the constraint alone."""
    if kind(better.name) == kind(worse.name):
        return better.name.startswith(f"{worse.name}+")
    free = worse.config["variant"]["answers_with"] != "model"
    return free or answers_under(better.config) == answers_under(worse.config)


def _has_rl(result: Result) -> bool:
    return bool(result.config["variant"]["rl"])


def _same_basis(a: Result, b: Result) -> bool:
    """Return whether a difference is not due to data, teacher or seed."""
    stages = ("data", "teacher")
    one_rl = a.seed == b.seed or not (_has_rl(a) and _has_rl(b))
    return (
        one_rl
        and a.run_seed == b.run_seed
        and all(
            a.upstream[stage]["fingerprint"] == b.upstream[stage]["fingerprint"]
            and a.upstream[stage].get("made") == b.upstream[stage].get("made")
            for stage in stages
        )
    )


def _differences(a: Result, b: Result) -> dict[str, UserScores]:
    catalogue = Catalogue.load(a.input("data") / "catalogue.jsonl")
    first, second = (read_jsonl(result.directory / "predictions.jsonl") for result in (a, b))
    return paired_differences(first, second, catalogue)


def _shown(column: Column, number: Mapping[str, Any] | None, beyond: bool, notes: Notes) -> Shown:
    if number is None:
        return Shown()
    value, low, high = (column.metric.scaled(number[part]) for part in ("value", "low", "high"))
    mark: Mark = "" if not beyond else "best" if (value < 0) == column.metric.lower_is_better else "second"
    return Shown(f"{value:+.1f}", "", f"[{low:+.1f}, {high:+.1f}]", mark, notes.letter(number), (low, value, high))
