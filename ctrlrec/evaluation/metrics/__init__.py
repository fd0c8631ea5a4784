"""Metrics, one module for each kind: those in its ``METRICS`` are computed, kept and shown."""

import os
from collections.abc import Mapping
from functools import cache

from ctrlrec.config.choices import PLUGINS, Choices
from ctrlrec.errors import CtrlRecError
from ctrlrec.evaluation.intervals import SHARE, Limits
from ctrlrec.evaluation.metrics.base import FREE, Answer, Metric, Record

__all__ = ["CHOICES", "Answer", "Metric", "Record", "families", "limits_of", "metric_of", "metrics_of"]

CHOICES: Choices[tuple[Metric, ...]] = Choices("evaluation.metrics", "METRICS")


def metrics_of(setting: str) -> Mapping[str, Metric]:
    """Return the metrics of a setting by name, in the order of their modules.

    Raises:
        CtrlRecError: if two modules define one metric for the setting.
    """
    return _metrics_of(setting, os.environ.get(PLUGINS, ""))


@cache
def _metrics_of(setting: str, plugins: str) -> Mapping[str, Metric]:
    """Return the metrics of a setting; ``plugins`` is the variable's value, so that a change of it is seen."""
    metrics: dict[str, Metric] = {}
    origins: dict[str, str] = {}
    for module, defined in CHOICES.items():
        for metric in defined:
            if metric.settings is not None and setting not in metric.settings:
                continue
            if metric.name in metrics:
                raise CtrlRecError(
                    f"evaluation/metrics/{module}.py: {origins[metric.name]}.py defines {metric.name} in setting "
                    f"{setting} too; rename one of them"
                )
            metrics[metric.name], origins[metric.name] = metric, module
    return metrics


def families() -> list[str]:
    """Return the families of metrics: that of the paper's questions, which has no name, and those with a summary."""
    return list(dict.fromkeys(["", *(metric.family for _, defined in CHOICES.items() for metric in defined)]))


def metric_of(setting: str, name: str) -> Metric | None:
    """Return the definition of a metric of ``metrics.json``, None if no module defines it."""
    return metrics_of(setting).get(name.removesuffix(FREE))


def limits_of(setting: str, name: str) -> Limits | None:
    """Return the smallest and largest value that a user can have, None if they are not known."""
    metric = metric_of(setting, name)
    return SHARE if metric is not None and metric.is_share else None
