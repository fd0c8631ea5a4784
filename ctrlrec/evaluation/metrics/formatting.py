"""Whether a list has the form asked for: length, repeats, inventions, items of the history (spec section 7)."""

from ctrlrec.evaluation.metrics.base import Answer, Metric


def correct_count(answer: Answer) -> float:
    """Return 1 if exactly k items were written."""
    return float(len(answer.items) == answer.item_count)


def _repeats(answer: Answer) -> int:
    return len(answer.written) - len(set(answer.written))


def repeats(answer: Answer) -> float:
    """Return how many of the k items repeat an earlier one, as a share of k even if fewer were written."""
    return _repeats(answer) / answer.item_count


def repeats_of_written(answer: Answer) -> float | None:
    """Return how many of the first k items repeat an earlier one, as a share of those written; None without any."""
    return _repeats(answer) / len(answer.written) if answer.written else None


def nonexistent(answer: Answer) -> float:
    """Return the share of the k items that no title of the catalogue stands for."""
    return sum(invented for invented, _ in answer.written) / answer.item_count


def in_history(answer: Answer) -> float:
    """Return the share of the k items that the history shown holds."""
    history = set(answer.question["history"])
    return sum(not invented and title in history for invented, title in answer.written) / answer.item_count


METRICS = (
    Metric("CorrectCount", correct_count, columns=()),
    Metric("RepeatItem@K", repeats, lower_is_better=True, columns=()),
    Metric("RepeatWritten@K", repeats_of_written, lower_is_better=True, columns=("formatting",)),
    Metric("NonExist@K", nonexistent, lower_is_better=True, columns=()),
    Metric("InHistory@K", in_history, lower_is_better=True, summary=False, columns=()),
)
