"""How far an answer follows a blend, and what following it costs (spec section 12, "Metrics")."""

from collections.abc import Sequence

from ctrlrec.controls.instruction import Condition, Instruction
from ctrlrec.controls.registry import BLEND
from ctrlrec.evaluation.metrics.base import Answer, Metric
from ctrlrec.evaluation.settings import SETTINGS
from ctrlrec.rewards.judging import Judgement, legality
from ctrlrec.rewards.list import positioned_scores

BEST_HIT = "HR@10_best"  # the metric that is the same for every row
BLENDS = tuple(name for name, setting in SETTINGS.items() if setting.conditions)


def violations(answer: Answer) -> list[int]:
    """Return for each condition by how many items the answer misses what is allowed, 0 if it is met.

    Items count as in TCP and CPA (spec section 7), so that silence never meets an upper bound.
    """
    catalogue, item_count = answer.catalogue, answer.item_count
    items = [None if title is None else catalogue.title_index[title] for title in answer.scored]
    missed = []
    for condition in map(Condition.read, answer.question["constraints"]):
        row = catalogue.membership[catalogue.category_index[condition.category]]
        inside = [None if item is None else bool(row[item]) for item in items]
        missed.append(condition.control.violation(inside, item_count, condition.proportion))
    return missed


def satisfied(answer: Answer) -> float:
    """Return the share of conditions that are met."""
    missed = violations(answer)
    return missed.count(0) / len(missed)


def all_satisfied(answer: Answer) -> float:
    """Return 1 if every condition is met, else 0."""
    return float(not any(violations(answer)))


def violation(answer: Answer) -> float:
    """Return the items by which the conditions are missed, summed over them."""
    return float(sum(violations(answer)))


def regret(answer: Answer) -> float:
    """Return 1 less the sum of Scores* (Equation 3) over that of the best list that meets all conditions.

    An answer without items has the sum 0, and so the regret 1. Below 0 is a list that the reward likes better, because
    it breaks a condition, or names the target and the best list does not.
    """
    question = answer.question
    best = _sum_of_scores(answer, question["best"], question["best_rank"])
    return 1 - _sum_of_scores(answer, answer.items, question["teacher_rank"]) / best


def best_hit(answer: Answer) -> float:
    """Return HR at 10 of the best list that meets all conditions; it is the same for every row."""
    return float(answer.question["target"] in answer.question["best"][:10])


def _sum_of_scores(answer: Answer, titles: Sequence[str | None], ranks: Sequence[int | None]) -> float:
    index, item_count, question = answer.catalogue.title_index, answer.item_count, answer.question
    history, target = tuple(index[title] for title in question["history"]), index[question["target"]]
    instruction = Instruction(BLEND, str(question["user"]), history, target, item_count, None, None, None, ())
    items = tuple(None if title is None else index[title] for title in titles[:item_count])
    illegal = legality(items, history, item_count)
    return sum(positioned_scores(Judgement(instruction, items, illegal, tuple(ranks[:item_count]), ())))


METRICS = (
    Metric("all_satisfied", all_satisfied, settings=BLENDS, free=True, columns=()),
    Metric("satisfied", satisfied, settings=BLENDS, free=True, columns=()),
    Metric("violation", violation, True, "items", settings=BLENDS, free=True, columns=()),
    Metric("regret", regret, True, "of the best", settings=BLENDS, columns=()),
    Metric(BEST_HIT, best_hit, unit="", settings=BLENDS, summary=False, columns=()),
)
