"""TCP, CPA and whatever else a control measures, in the settings that ask for it (Equations 6 and 7)."""

from collections.abc import Callable

from ctrlrec.controls.base import Control
from ctrlrec.evaluation.metrics.base import Answer, Metric
from ctrlrec.evaluation.settings import SETTINGS


def _measured(control: Control, literal: bool) -> Callable[[Answer], float]:
    """Return the control's measure of an answer; a number after the metric's @ is how many items it looks at."""
    depth = control.metric.partition("@")[2]

    def measure(answer: Answer) -> float:
        count = min(int(depth), answer.item_count) if depth.isdigit() else answer.item_count
        inside = [None if item is None else item in answer.inside for item in answer.scored[:count]]
        return control.measure(inside, count, answer.question["proportion"], literal)

    return measure


def _metrics(setting: str, control: Control) -> list[Metric]:
    """Return the measure, and as ``NAME_literal`` the one without counting missing items if it can differ."""
    name, lower, of = control.metric, control.lower_is_better, (setting,)
    metrics = [Metric(name, _measured(control, False), lower, settings=of, free=True, columns=())]
    if control.takes_percent or lower:
        literal = f"{name}_literal"
        metrics.append(Metric(literal, _measured(control, True), lower, settings=of, summary=False, columns=()))
    return metrics


METRICS = tuple(
    metric
    for name, setting in SETTINGS.items()
    if setting.control is not None
    for metric in _metrics(name, setting.control)
)
