"""Check the paper's claims against kept rows: ``python experiments/claims/claims.py [FOLDER ...]``.

Reads ``rows.json`` and ``comparisons.json`` of the given folders of ``experiments/``, one a data set, and writes
``claims.md`` and ``claims.json`` beside this file. Without folders it takes every ``*-llama_mini-small``.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.intervals import holm, mean_of_seeds, p_value, with_spread
from ctrlrec.reporting.columns import Column
from ctrlrec.reporting.page.words import asked
from ctrlrec.reporting.render import Cell, Grid, markdown
from ctrlrec.runtime import files
from ctrlrec.runtime.printing import command

HERE = Path(__file__).resolve().parent
LEVEL = 0.05  # family-wise, over all tests of all data sets


@dataclass(frozen=True)
class Test:
    """One comparison that speaks for or against a claim.

    Attributes:
        better: the row that the claim says is better.
        worse: the row that it is compared with.
        setting: what was asked.
        metric: what is compared.
        margin: share of the number of ``worse`` by which ``better`` may be worse; 0 asks for a real difference.
    """

    better: str
    worse: str
    setting: str
    metric: str
    margin: float = 0.0


@dataclass(frozen=True)
class Effect:
    """The outcome of a test on one data set.

    Attributes:
        dataset: its name.
        value: mean difference over the seeds, in the metric's own unit.
        low: end of its interval over users and seeds.
        high: other end of it.
        seeds: how many seeds have both rows.
        p: of no difference, or of a difference of just the margin.
        supports: whether the difference points the way of the claim.
    """

    dataset: str
    value: float
    low: float
    high: float
    seeds: int
    p: float
    supports: bool


TCP = (("category_positive", "TCP@10"), ("category_negative", "TCP@10"))
CPA = (("at_most_20", "CPA"), ("about_30", "CPA"), ("at_least_30", "CPA"))
FORM = (("sequential", "RepeatItem@K"), ("formatting", "RepeatItem@K"))
INVENTED = (("sequential", "NonExist@K"), ("formatting", "NonExist@K"))


ACCURACY = (("sequential", "HR@10"),)


def _tests(better: str, worse: str, places: Sequence[tuple[str, str]]) -> tuple[Test, ...]:
    return tuple(Test(better, worse, *place) for place in places)


CLAIMS: Mapping[str, tuple[Test, ...]] = {
    "SL on all instructions teaches control": _tests("v2", "v1", (*TCP, *CPA)),
    "SL keeps accuracy: HR@10 at least 0.93 of the teacher's": (Test("v2", "sasrec", *ACCURACY[0], margin=0.07),),
    "Instructions of other papers do worse": (*_tests("v2", "palr", ACCURACY), *_tests("v2", "instructrec", ACCURACY)),
    "RL removes repeated items": _tests("full", "v2", FORM),
    "RL removes invented items": _tests("full", "v2", INVENTED),
    "RL adds control": _tests("full", "v2", (*TCP, *CPA)),
    "Item rewards add to list rewards": _tests("full", "v3", (*TCP, *CPA, *FORM)),
    "CPA grows from v1 to v2, v3 and full": tuple(
        Test(better, worse, *place) for place in CPA for worse, better in (("v1", "v2"), ("v2", "v3"), ("v3", "full"))
    ),
}


def effect(test: Test, name: str, rows: Sequence[Mapping], compared: Sequence[Mapping]) -> Effect | None:
    """Return the outcome of a test on a data set; None if no seed has both rows and the metric.

    Args:
        test: what to compare.
        name: of the data set.
        rows: of ``rows.json``.
        compared: of ``comparisons.json``.
    """
    pairs = [one for one in compared if (one["better"], one["worse"]) == (test.better, test.worse)]
    cells = [cell for one in pairs if (cell := one["settings"].get(test.setting, {}).get(test.metric))]
    if not cells:
        return None
    metric = Column(test.setting, test.metric).metric
    sign, limit = -1 if metric.lower_is_better else 1, 0.0
    if test.margin:
        seeds = {one["seed"] for one in pairs}
        own = [row for row in rows if row["row"] == test.worse and row["seed"] in seeds]
        limit = -sign * test.margin * fmean(row["settings"][test.setting][test.metric]["value"] for row in own)
    confidence = pairs[0]["confidence"]
    users, values = mean_of_seeds(cells), [cell["value"] for cell in cells]
    wide = with_spread(users, values, confidence)
    shifted = {end: users[end] - limit for end in ("value", "low", "high")}
    p = p_value(shifted, [value - limit for value in values], confidence)
    ahead = sign * (users["value"] - limit) > 0
    return Effect(name, *(metric.scaled(wide[end]) for end in ("value", "low", "high")), len(cells), p, ahead)


def verdict(outcomes: Sequence[tuple[Effect, bool]]) -> str:
    """Return what the tests of a claim say together.

    Args:
        outcomes: each test's effect on each data set, and whether it is beyond chance.
    """
    pro, contra = (sum(sure and found.supports == way for found, sure in outcomes) for way in (True, False))
    counts = f"{pro} of {len(outcomes)} for, {contra} against"
    if not outcomes:
        return "not tested"
    if contra:
        return f"{'mixed' if pro else 'does not hold'} ({counts})"
    return f"{'holds' if pro == len(outcomes) else 'holds in part' if pro else 'not shown'} ({counts})"


def _read(folder: Path) -> tuple[str, list[Any], list[Any]]:
    rows, compared = (folder / name for name in ("rows.json", "comparisons.json"))
    for path in (rows, compared):
        if not path.is_file():
            raise CtrlRecError(f"{path}: not there; give folders that experiments/keep.py has written")
    kept = json.loads(rows.read_text(encoding="utf-8"))
    return kept[0]["dataset"], kept, json.loads(compared.read_text(encoding="utf-8"))


def checked(folders: Sequence[Path]) -> tuple[Grid, list[dict[str, Any]]]:
    """Return the claims as a table and as records.

    Args:
        folders: of kept rows, one a data set.

    Raises:
        CtrlRecError: if a folder lacks ``rows.json`` or ``comparisons.json``.
    """
    read = [_read(folder) for folder in folders]
    names = [name for name, _, _ in read]
    found = {
        (claim, test): [one for name, *kept in read if (one := effect(test, name, *kept))]
        for claim, tests in CLAIMS.items()
        for test in tests
    }
    distinct = {(test, one.dataset): one.p for (_, test), ones in found.items() for one in ones}
    sure = dict(zip(distinct, holm(list(distinct.values()), LEVEL), strict=True))
    lines, records = [], []
    for claim, tests in CLAIMS.items():
        outcomes = [(one, sure[test, one.dataset]) for test in tests for one in found[claim, test]]
        said = verdict(outcomes)
        records.append({"claim": claim, "verdict": said, "tests": []})
        for place, test in enumerate(tests):
            by_name = {one.dataset: one for one in found[claim, test]}
            cells = []
            for name in names:
                one = by_name.get(name)
                if one is None:
                    cells.append(Cell("-"))
                    continue
                mark = ("for" if one.supports else "against") if sure[test, name] else "open"
                cells.append(Cell(f"{one.value:+.1f}", f"{one.seeds} seeds" if one.seeds > 1 else "1 seed",
                                  f"[{one.low:+.1f}, {one.high:+.1f}] {mark}"))  # fmt: skip
                records[-1]["tests"].append({**asdict(test), **asdict(one), "verdict": mark})
            metric = Column(test.setting, test.metric).metric
            what = f"{test.better} - {test.worse}, {asked(test.setting)}: {metric.name} {metric.arrow}"
            lines.append(((claim if place == 0 else "", what, said if place == 0 else ""), tuple(cells)))
    caption = (
        f"Differences in points, (seeds), [95% interval over users and seeds], and whether a difference is beyond "
        f"chance after Holm's correction over all {len(distinct)} tests: for or against the claim, otherwise open."
    )
    grid = Grid(caption, ("Claim", "Difference", "Verdict"), (), tuple(names), tuple(lines))
    return grid, records


@command
def main() -> None:
    """Write the claims."""
    folders = [Path(name) for name in sys.argv[1:]] or sorted(HERE.parent.glob("*-llama_mini-small"))
    grid, records = checked(folders)
    files.write_text(HERE / "claims.md", markdown(grid))
    files.write_text(HERE / "claims.json", json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
