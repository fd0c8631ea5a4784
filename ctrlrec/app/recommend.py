"""Recommend from the command line: ``python -m ctrlrec.recommend --history "Fargo (1996)" --more Comedy -k 5``.

Without a history and without a user, a user of the data is taken; without any wish either, three answers are shown:
asked nothing, asked more of a category, asked none of it.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlrec.app.answer_page import FLAWS
from ctrlrec.app.wishes import Wish, option_of, read_wish
from ctrlrec.config.choices import PLUGINS
from ctrlrec.config.files import choices_of
from ctrlrec.controls.registry import controls, kind_of
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.escaping import inert
from ctrlrec.runtime.faults import explained
from ctrlrec.runtime.printing import command

if TYPE_CHECKING:
    from rich.table import Table

    from ctrlrec.app.answers import Recommendation
    from ctrlrec.app.recommender import Recommender


def parser() -> argparse.ArgumentParser:
    """Return the parser; each control and each constraint that is installed is an option or a choice."""
    made = argparse.ArgumentParser(
        description="Recommend items after a history, under control.",
        epilog=f"Without arguments: three answers for a user of the data. Controls of plug-ins ({PLUGINS}) are options "
        "too. With --json, standard output holds JSON alone.",
    )
    whose = made.add_argument_group("for whom").add_mutually_exclusive_group()
    whose.add_argument("--history", nargs="+", metavar="TITLE", help="titles, oldest first, as in the catalogue")
    whose.add_argument("--user", metavar="ID", help="a user of the data")
    asked = made.add_argument_group("what", "each may be given several times; together they are one blended question")
    for control in controls():
        said = (type(control).__doc__ or control.task).splitlines()[0].rstrip(".")
        asked.add_argument(
            option_of(kind_of(control)),
            dest="wishes",
            action="append",
            default=[],
            type=partial(_wish, kind_of(control)),
            metavar="'CATEGORY N%'" if control.takes_percent else "CATEGORY",
            help=said[0].lower() + said[1:],
        )
    asked.add_argument("-k", type=int, default=10, metavar="N", help="number of items (10)")
    how = made.add_argument_group("by which model")
    which = how.add_mutually_exclusive_group()
    which.add_argument("--run", type=Path, metavar="FOLDER", help="finished result, such as runs/evaluate/NAME")
    which.add_argument("--model", metavar="NAME", help="released model; the one that comes with the package")
    how.add_argument("--constraint", choices=list(choices_of("constraint")), help="what it may write; as in its run")
    shown = made.add_argument_group("output")
    shown.add_argument("--explain", action="store_true", help="show teacher rank, categories and reward of each item")
    shown.add_argument("--json", action="store_true", help="print JSON")
    return made


def _wish(kind: str, text: str) -> Wish:
    try:
        return read_wish(kind, text)
    except CtrlRecError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@command
def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")  # to standard error
    logging.getLogger("ctrlrec.app").setLevel(logging.INFO)
    with explained(Path.cwd()):
        answers = answered(arguments)
    if arguments.json:
        records = [answer.record() for answer in answers]
        print(json.dumps(records if len(records) > 1 else records[0], indent=2, ensure_ascii=False))
    else:
        show(answers, arguments.explain)


def answered(arguments: argparse.Namespace) -> list["Recommendation"]:
    """Return the answers that a command line asks for: one, or three if it asks for nothing."""
    from ctrlrec.app.loading import released  # late: --help and typos must not wait for torch
    from ctrlrec.app.recommender import Recommender

    recommender = Recommender.load(arguments.run or released(arguments.model))
    whose: dict[str, Any] = {"history": arguments.history or (), "user": arguments.user}
    if not arguments.history and arguments.user is None:
        whose = somebody(recommender)
    ask = partial(recommender.recommend, k=arguments.k, constraint=arguments.constraint, **whose)
    if arguments.wishes or arguments.history or arguments.user is not None:
        return [ask(controls=arguments.wishes)]
    free = ask()
    category = telling_category(recommender, free)
    return [free, *(ask(controls=[Wish(kind, category)]) for kind in ("positive", "negative"))]


def somebody(recommender: "Recommender") -> dict[str, Any]:
    """Return the first user of the data; the most popular items if the model was packed without users."""
    if recommender.users:
        return {"user": recommender.users[0]}
    return {"history": recommender.example_history()}


def telling_category(recommender: "Recommender", free: "Recommendation") -> str:
    """Return a category of which more and none can be asked: about half of an answer without a wish is in it.

    Raises:
        CtrlRecError: if there is none.
    """
    items, k = len(recommender.titles) - len(free.history), free.item_count
    possible = [name for name, size in recommender.categories.items() if k + len(free.history) <= size <= items - k]
    if not possible:
        raise CtrlRecError(f"no category has both {k} items and {k} others: lower -k")
    listed = [name for item in free.items for name in item.categories]
    return min(possible, key=lambda name: (abs(listed.count(name) - k / 2), -recommender.categories[name], name))


def show(answers: Sequence["Recommendation"], explain: bool) -> None:
    """Print answers for people.

    Args:
        answers: to the same person.
        explain: whether to show teacher rank, categories and reward of each item.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    first = answers[0]
    whose = f"User {first.user}" if first.user is not None else "Somebody"
    console.print(Text(f"{inert(whose)}, who took: {inert(', '.join(first.history))}"))
    if first.target is not None:
        console.print(Text(f"Took next: {inert(first.target)}"))
    for answer in answers:
        console.print()
        console.print(Text(inert(question(answer)), style="bold"))
        console.print(_table(answer, explain))
        for outcome in answer.outcomes:
            met = "met" if outcome.satisfied else "not met"
            counted = f"{outcome.count} of {answer.item_count} in {outcome.wish.category}"
            console.print(Text(inert(f"{outcome.wish}: {met}, {counted}")))
        if explain:
            console.print(Text(f"list reward {answer.list_reward:+.2f}, constraint {answer.constraint}"))


def question(answer: "Recommendation") -> str:
    """Return in a few words what was asked."""
    wishes = "; ".join(str(outcome.wish) for outcome in answer.outcomes) or "anything"
    return f"{answer.item_count} items, {wishes}:"


def _table(answer: "Recommendation", explain: bool) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=explain, pad_edge=False)
    for name, side in (("", "right"), ("title", "left"), ("", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    if explain:
        for name, side in (("categories", "left"), ("teacher rank", "right"), ("reward", "right")):
            table.add_column(name, justify=side)  # type: ignore[arg-type]
    for place, item in enumerate(answer.items, 1):
        flaw = FLAWS[item.illegal] if item.illegal else "taken next" if _is_target(answer, item.item) else ""
        cells = [f"{place}.", inert(item.item or item.title), flaw]
        if explain:
            rank = "" if item.teacher_rank is None else str(item.teacher_rank)
            cells += [inert(", ".join(item.categories)), rank, f"{item.reward:+.2f}"]
        table.add_row(*map(Text, cells))
    if not answer.items:
        table.add_row("", Text("(nothing was written)"))
    return table


def _is_target(answer: "Recommendation", title: str | None) -> bool:
    return title is not None and title == answer.target


if __name__ == "__main__":
    sys.exit(main())
