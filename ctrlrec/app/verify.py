"""Recompute what a kept row says from its files: ``ctrlrec verify RUN``.

One line a check; the exit status is 1 if anything differs.

| RUN | what is checked |
| --- | --- |
| a finished row, ``runs/evaluate/NAME`` | checksums of all stages that are there; every number of ``metrics.json`` with its interval, from ``predictions.jsonl``; titles, items and ranks of every answer; the whole answers to 20 users, asked again |
| another finished stage | checksums |
| a released model, ``models/NAME`` | checksums; the table of its card; the answers to 20 users, if the data can be fetched |
| a folder of tables, kept (``experiments/NAME``) or of a run (``runs/tables/NAME``) | tables, summary and page from ``rows.json``; its rows, if their results are there |
"""  # noqa: E501

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf, open_dict

from ctrlrec.app.again import SAMPLE, answers, sample_digests
from ctrlrec.app.audit import lineage
from ctrlrec.app.findings import Check, show
from ctrlrec.app.loading import RECORD, Parts, load, result_of
from ctrlrec.app.release import card_lines
from ctrlrec.config.compose import recorded
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.answering import read_answers
from ctrlrec.evaluation.matching import TitleMatcher
from ctrlrec.evaluation.scoring import score
from ctrlrec.evaluation.settings import SETTINGS
from ctrlrec.reporting.kept import render
from ctrlrec.runtime import results
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.files import check_files, read_jsonl, sha256_of
from ctrlrec.runtime.printing import command

_NEAR = 1e-9  # relative; sums over users may be taken in another order on another machine
_UNKEPT = "general"  # the setting of MMLU and GSM8K
_FIELDS = ("history", "target", "item_count", "category", "proportion", "prompt", "response", "titles", "items",
           "teacher_rank")  # fmt: skip
_PAGES = (
    "table[23458].*",
    "summary.md",
    "comparisons.md",
    "comparisons.tex",
    "comparisons.csv",
    "report.html",
    "beyond_accuracy.md",
    "comparisons-*",
)


def verify(path: Path) -> Iterator[Check]:
    """Check a finished result, a released model or a folder of tables.

    Raises:
        CtrlRecError: if there is no such thing.
    """
    if (path / RECORD).is_file():
        yield from _released(path)
    elif (path / "rows.json").is_file():
        yield from _tables(path)
    else:
        yield from _result(result_of(path))


def _result(row: Path) -> Iterator[Check]:
    """Check a finished result and what it was made from."""
    for stage, folder in lineage(row).items():
        yield _files(f"files of {stage}", folder)
    if not (row / "predictions.jsonl").is_file():
        return
    rows, record = read_jsonl(row / "predictions.jsonl"), results.read(row)
    config = recorded(record["config"])
    data = results.made_from(row, record["upstream"])["data"]
    if not (data / "catalogue.jsonl").is_file():
        yield Check("metrics", f"{data}: missing", done=False)
        return
    catalogue, settings = Catalogue.load(data / "catalogue.jsonl"), config.evaluation
    kept = results.read_json(row / "metrics.json", {"settings": {}})["settings"]
    try:
        now = score(rows, catalogue, settings.bootstrap_resamples, settings.confidence, config.seed)["settings"]
        found = differences({name: cells for name, cells in kept.items() if name != _UNKEPT}, now)
    except CtrlRecError as error:
        found, now = [str(error)], {}
    count = sum(map(len, now.values()))
    yield Check("metrics", f"{count} numbers of {len(now)} settings, each with its interval", found)
    if _UNKEPT in kept:
        yield Check("general ability", "the answers to MMLU and GSM8K are not kept", done=False)
    try:
        parts = load(row)
    except CtrlRecError as error:
        yield Check("answers", str(error), done=False)
        return
    yield _readings(rows, parts)
    yield _asked_again(rows, parts)


def _files(name: str, folder: Path) -> Check:
    """Compare the files of a folder with their checksums."""
    if not folder.is_dir():
        return Check(name, f"{folder}: missing", done=False)
    listed = results.read_json(folder / "files.json", None)
    if listed is None and not (folder / "files.json").exists():
        return Check(name, f"{folder}: no files.json, it is of an earlier version", done=False)
    try:
        check_files(folder, "restore it from where it came")
    except CtrlRecError as error:
        return Check(name, "", [error])
    return Check(name, f"{len(listed)} files are as they were left")


def differences(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return which numbers of ``settings`` of ``metrics.json`` are not those recomputed.

    Args:
        kept: on record.
        now: recomputed; may hold metrics that did not exist when the row was made.
    """
    found = []
    for setting, cells in kept.items():
        for name, cell in cells.items():
            other = now.get(setting, {}).get(name)
            if other is None:
                found.append(f"{setting} {name}: on record, and predictions.jsonl gives no such number")
                continue
            for part, value in cell.items():
                if part in other and not math.isclose(value, other[part], rel_tol=_NEAR, abs_tol=_NEAR):
                    found.append(f"{setting} {name}: {part} is {value} on record and {other[part]} recomputed")
    return found + [f"{name}: answers on record, and no numbers of it" for name in now if name not in kept]


def _readings(rows: list[dict[str, Any]], parts: Parts) -> Check:
    """Read titles, items and teacher ranks of every answer again."""
    builder, config = parts.builder, parts.config
    matcher = TitleMatcher(builder.catalogue.titles, config.evaluation.match_max_edits)
    asked = [
        Instruction.read({"candidates": None, **row, "task": SETTINGS[row["setting"]].task}, builder.catalogue)
        for row in rows
    ]
    texts = [row["response"] for row in rows]
    written, items = read_answers(asked, texts, matcher, config.variant.lenient_answers)
    ranks = builder.ranker.ranks([instruction.history for instruction in asked], items)
    titles, found = builder.catalogue.titles, []
    for number, (row, read, matched, places) in enumerate(zip(rows, written, items, ranks, strict=True), 1):
        names = [None if item is None else titles[item] for item in matched]
        readings: dict[str, Any] = {"titles": read, "items": names, "teacher_rank": places}
        for field, value in readings.items():
            if row[field] != value:
                found.append(
                    f"predictions.jsonl:{number}: setting {row['setting']}, user {row['user']}: {field} is "
                    f"{_short(row[field])} on record; the response gives {_short(value)}"
                )
    return Check("answers", f"{len(rows)} responses, read and ranked again", found)


def _asked_again(rows: list[dict[str, Any]], parts: Parts) -> Check:
    """Ask some users again and compare questions and answers."""
    config = OmegaConf.create(parts.config)  # type: ignore[call-overload]
    asked = config.evaluation.users
    with open_dict(config):
        OmegaConf.set_readonly(config, False)
        config.evaluation.users = SAMPLE if asked is None else min(SAMPLE, asked)
    kept = {(row["setting"], row["user"]): row for row in rows}
    found, users = [], set()
    for row in answers(parts, parts.builder, config):
        users.add(row["user"])
        before = kept.get((row["setting"], row["user"]))
        where = f"setting {row['setting']}, user {row['user']}"
        if before is None:
            found.append(f"{where}: no answer on record")
            continue
        for field in _FIELDS:
            if before[field] != row[field]:
                found.append(f"{where}: {field} is {_short(before[field])} on record, and now {_short(row[field])}")
                break
    return Check("asked again", f"{len(users)} users in {len(config.evaluation.settings)} settings", found)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."


def _released(folder: Path) -> Iterator[Check]:
    """Check a released model."""
    yield _files("files", folder)
    record, metrics = (results.read_json(folder / name, {}) for name in (RECORD, "metrics.json"))
    card = (folder / "README.md").read_text(encoding="utf-8") if (folder / "README.md").exists() else ""
    lines = list(card_lines(metrics.get("settings", {})).values())
    absent = [f"README.md: no line '{line}', which metrics.json gives" for line in lines if line not in card]
    yield Check("table of the card", f"{len(lines)} lines from metrics.json", absent)
    yield Check("metrics", "the folder holds no answers; the run that was packed does", done=False)
    if (folder / "data" / "catalogue.jsonl").is_file():
        digest = sha256_of(folder / "data" / "catalogue.jsonl")
        wrong = [] if digest == record["data"]["catalogue"] else [f"catalogue.jsonl is not that of {RECORD}"]
        yield Check("catalogue", "its checksum is that of the data trained on", wrong)
    kept = record.get("answers")
    if not kept:
        yield Check("asked again", "packed by an earlier version, without digests of its answers", done=False)
        return
    try:
        parts = load(folder)
    except CtrlRecError as error:
        yield Check("asked again", str(error), done=False)
        return
    if not parts.builder.sequences.users:
        yield Check("asked again", "the folder holds no interaction of a user", done=False)
        return
    config = recorded(record["config"], evaluation__users=SAMPLE)
    asked = record["config"]["evaluation"]["users"]
    if asked is not None and asked < SAMPLE:
        config = recorded(record["config"])
    now = sample_digests(answers(parts, parts.builder, config), parts.builder)
    wrong = [f"setting {name}: other answers than when it was packed" for name in kept if now.get(name) != kept[name]]
    yield Check("asked again", f"{SAMPLE} users in {len(kept)} settings", wrong)


def _tables(folder: Path) -> Iterator[Check]:
    """Check a folder of tables."""
    rows = results.read_json(folder / "rows.json", [])
    runs = folder.absolute().parents[1] / "evaluate"
    here = [row for row in rows if (runs / row.get("result", "") / "metrics.json").is_file() and row.get("result")]
    found = []
    for row in here:
        metrics = results.read_json(runs / row["result"] / "metrics.json", {"settings": {}})
        found += [f"row {row['row']}, seed {row['seed']}: {line}" for line in
                  differences(row["settings"], metrics["settings"])]  # fmt: skip
    if here:
        yield Check("rows", f"{len(here)} of {len(rows)} rows against their results", found)
    if len(here) < len(rows):
        gone = len(rows) - len(here)
        yield Check("rows", f"{gone} of {len(rows)} rows have no result here to recompute them from", done=False)
    ordered = [
        f"row {row['row']}, seed {row['seed']}: {setting} {name} is not within its interval"
        for row in rows
        for setting, cells in row["settings"].items()
        for name, cell in cells.items()
        if not cell["low"] - _NEAR <= cell["value"] <= cell["high"] + _NEAR
    ]
    yield Check("intervals", "every value lies in its own", ordered)
    with tempfile.TemporaryDirectory() as scratch:
        again = Path(scratch) / folder.absolute().name
        shutil.copytree(folder, again)
        made = {path.name for path in render(again)}
        pages = sorted({path.name for pattern in _PAGES for path in folder.glob(pattern)} & made)
        if here:  # of a run: its comparisons rest on answers, and its page shows them
            pages = [name for name in pages if not name.startswith(("comparisons", "report"))]
        other = [f"{name}: not what rows.json gives" for name in pages if _text(folder / name) != _text(again / name)]
    yield Check("tables", f"{len(pages)} files from rows.json", other)
    if unmade := sorted(path.name for path in folder.glob("table[17].csv")):
        yield Check("data tables", f"{', '.join(unmade)} rest on data that are not kept here", done=False)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description="Recompute what a kept row, a released model or a table says.")
    made.add_argument("run", type=Path, help="such as runs/evaluate/NAME, models/NAME or experiments/NAME")
    return made


@command
def main() -> int:
    """Run the command line; the exit status is 0, or 1 after an error or if anything differs."""
    arguments = parser().parse_args()
    with explained(arguments.run):
        wrong = show(verify(arguments.run), "FAIL")
    print(f"{wrong} differences" if wrong else "as it was left")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
