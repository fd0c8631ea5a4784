"""Greedy answers to validation questions, measured as evaluation measures them (spec sections 6 and 7).

Rooms import one way, and evaluation comes after RL: shares are counted on judgements, of items as written.
"""

from collections import defaultdict
from collections.abc import Sequence

from ctrlrec.controls.base import Control
from ctrlrec.rewards.reward import Reward
from ctrlrec.rl.rollout import Answer

Measured = tuple[str, dict[str, float]]  # kind of question, and what its answer scored by name


def measured(answer: Answer, reward: Reward) -> Measured:
    """Return what one answer scores; shares are of the k items asked for.

    Args:
        answer: to a question about a validation item.
        reward: weighs the rewards of items and list.

    Returns:
        The kind of question, and reward, repeat, nonexist, hr and the measures of the controls asked for.
    """
    judged, asked = answer.judgement, answer.judgement.instruction
    count = asked.item_count
    items, illegal = judged.items[:count], judged.illegal[:count]
    scores = {
        "reward": reward.total(answer.item_rewards, answer.list_reward),
        "repeat": illegal.count("repeat") / count,
        "nonexist": illegal.count("nonexistent") / count,
        "hr": float(asked.target in items),
    }
    for side in judged.sides:
        control = side.condition.control
        inside = [None if item is None else flag for item, flag in zip(items, side.inside[:count], strict=True)]
        scores[_name(control)] = control.measure(inside, count, side.condition.proportion)
    return asked.task, scores


def _name(control: Control) -> str:
    """Return the name of a control's measure: one for all proportions, one for each other control."""
    measure = control.metric.partition("@")[0].lower()
    return measure if control.takes_percent else f"{measure}_{control.task.removeprefix(f'{control.family}_')}"


def means_by_kind(rows: Sequence[Measured]) -> dict[str, float]:
    """Return the mean of each score over the kinds of question, each kind alike however often it is asked."""
    kinds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for kind, scores in rows:
        for name, value in scores.items():
            kinds[name][kind].append(value)
    return {
        name: sum(sum(values) / len(values) for values in by_kind.values()) / len(by_kind)
        for name, by_kind in kinds.items()
    }
