"""General ability; ``evaluation/general.py`` asks the questions."""

from ctrlrec.evaluation.metrics.base import Metric

METRICS = (
    Metric("MMLU", None, unit="", settings=("general",), columns=()),
    Metric("GSM8K", None, unit="", settings=("general",), columns=()),
)
