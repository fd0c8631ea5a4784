"""The case-study page (Table 6): chosen users, the answers of all rows, what each item is and what it earns."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctrlrec.config.schema import CasesConfig
from ctrlrec.controls.instruction import Instruction
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.settings import SETTINGS, question_of
from ctrlrec.reporting.aggregate import Result
from ctrlrec.reporting.rows import in_order
from ctrlrec.rewards.judging import Judgement, legality, side_of
from ctrlrec.rewards.reward import Reward
from ctrlrec.runtime.escaping import markdown_text
from ctrlrec.runtime.files import read_jsonl, write_text

log = logging.getLogger(__name__)

# Marks of an item, in the order in which they are shown.
MARKS = {
    "target": "the target",
    "inside": "in the category",
    "history": "in the history",
    "repeat": "repeated",
    "nonexistent": "invented",
    "excess": "beyond k",
}


@dataclass(frozen=True)
class ShownItem:
    """One item of an answer: as written, what it is, and its item-level reward."""

    title: str
    marks: tuple[str, ...]
    reward: float


@dataclass(frozen=True)
class ShownAnswer:
    """A row's answer to one question, with its list-level reward before the weight."""

    row: str
    items: tuple[ShownItem, ...]
    list_reward: float


@dataclass(frozen=True)
class Case:
    """One question to one user and what every row answered."""

    user: str
    setting: str
    prompt: str
    target: str
    category: str | None
    answers: tuple[ShownAnswer, ...]


def find_cases(results: Sequence[Result], config: CasesConfig) -> list[Case]:
    """Return the chosen users' questions with the answers of all rows that were asked them.

    Another seed has other words and another teacher, which asks against other categories: of several seeds the one with
    most rows is shown, the smallest among equals; of several seeds of RL alone the smallest. Titles are judged as
    rewards judge them: exactly. What a reward needs of the teacher stands in the predictions.

    Raises:
        CtrlRecError: if a chosen user was not asked.
    """
    seeds = Counter(result.run_seed for result in results)
    seed = max(seeds, key=lambda seed: (seeds[seed], -seed), default=None)
    smallest_last = sorted(results, key=lambda result: result.seed, reverse=True)
    by_name = {result.name: result for result in smallest_last if result.run_seed == seed}
    rows = [by_name[row.name] for row in in_order(result.row for result in by_name.values())]
    absent = {result.name for result in results} - {row.name for row in rows}
    found: dict[tuple[str, str], list[tuple[Result, dict[str, Any]]]] = {}
    for row in rows:
        for record in read_jsonl(row.directory / "predictions.jsonl"):
            if record["setting"] in config.settings:
                found.setdefault((record["setting"], str(record["user"])), []).append((row, record))
    everyone = list(dict.fromkeys(user for _, user in found))
    if unknown := [user for user in config.users if user not in everyone]:
        raise CtrlRecError(
            f"cases.users: {', '.join(unknown)} was not asked in {', '.join(config.settings)}; "
            f"asked were {', '.join(everyone[:5])}, ..."
        )
    catalogues = {row.name: Catalogue.load(row.input("data") / "catalogue.jsonl") for row in rows}
    cases = []
    for user in config.users or everyone[: config.count]:
        for setting in config.settings:
            if (setting, user) not in found:
                continue
            answered = found[setting, user]
            # A row with words of its own is shown beside the others under their question.
            own = [record for row, record in answered if row.config["variant"]["instructions"] == "paper"]
            asked = own[0] if own else answered[0][1]
            alike = [(row, record) for row, record in answered if question_of(record) == question_of(asked)]
            absent |= {row.name for row, _ in answered} - {row.name for row, _ in alike}
            answers = tuple(_judged(row, record, catalogues[row.name]) for row, record in alike)
            cases.append(Case(user, setting, asked["prompt"], asked["target"], asked["category"], answers))
    if absent:
        log.info("%-12s Table 6 leaves out answers of %s to other questions", "tables", ", ".join(sorted(absent)))
    return cases


def judgement_of(record: Mapping[str, Any], task: str, catalogue: Catalogue) -> Judgement:
    """Return the judgement of an answer on disk: a line of ``predictions.jsonl`` or of ``rollouts.jsonl``."""
    instruction = Instruction.read({"candidates": None, **record, "task": task}, catalogue)
    items = tuple(catalogue.answer_index.get(title) for title in record["titles"])
    illegal = legality(items, instruction.history, instruction.item_count, instruction.candidates)
    ranks = tuple(None if item is None else rank for item, rank in zip(items, record["teacher_rank"], strict=True))
    sides = tuple(side_of(condition, items, illegal, catalogue) for condition in instruction.conditions)
    return Judgement(instruction, items, illegal, ranks, sides)


def _inside(judgement: Judgement) -> list[bool]:
    """Return whether each item is in a category that the question is about."""
    return [any(side.inside[place] for side in judgement.sides) for place in range(len(judgement.items))]


def _judged(row: Result, record: Mapping[str, Any], catalogue: Catalogue) -> ShownAnswer:
    judgement = judgement_of(record, SETTINGS[record["setting"]].task, catalogue)
    reward = Reward.of_run(row.config["reward"])
    target = judgement.instruction.target
    shown = []
    for title, item, inside, reason, earned in zip(
        record["titles"], judgement.items, _inside(judgement), judgement.illegal, reward.item(judgement), strict=True
    ):
        marks = (item == target and "target", inside and "inside", reason)
        shown.append(ShownItem(title, tuple(mark for mark in marks if mark), earned))
    return ShownAnswer(row.name, tuple(shown), reward.list(judgement))


def markdown_page(cases: Sequence[Case]) -> str:
    """Return the page as Markdown, with words in the place of colours."""
    lines = ["# Answers of all rows", "", "After each item: its item reward, and what it is.", ""]
    for case in cases:
        wanted = f"; category **{markdown_text(case.category)}**" if case.category else ""
        lines += [f"## User {markdown_text(case.user)}, {markdown_text(case.setting)}", ""]
        lines += [f"> {markdown_text(case.prompt)}", "", f"Taken next: **{markdown_text(case.target)}**{wanted}", ""]
        lines += ["| Row | Answer | List reward |", "| --- | --- | ---: |"]
        for answer in case.answers:
            items = []
            for place, shown in enumerate(answer.items, 1):
                said = ", ".join((f"{shown.reward:+.2f}", *(MARKS[mark] for mark in shown.marks)))
                items.append(f"{place}. {markdown_text(shown.title)} *({said})*")
            lines.append(f"| {markdown_text(answer.row)} | {'<br>'.join(items)} | {answer.list_reward:+.2f} |")
        lines.append("")
    return "\n".join(lines)


def write_cases(cases: Sequence[Case], folder: Path) -> None:
    """Write ``table6.md``."""
    write_text(folder / "table6.md", markdown_page(cases))
