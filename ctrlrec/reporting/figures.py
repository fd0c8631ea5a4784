"""Pictures: learning curves of SL and RL from the CSV files that every run leaves, and intervals as whiskers."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ctrlrec.errors import CtrlRecError

Panels = Mapping[str, str]  # title: regular expression of the columns drawn
PANELS: Mapping[str, Panels] = {  # by stage
    "sl": {"Loss per response token": r"(train|validation)/loss.*"},
    "rl": {
        "Reward of an answer": r"reward/(total|item|list)",
        "Share of written items": r"illegal/.*",
        "KL per token": r"kl/.*",
        "Greedy answers to validation questions": r"validation/(?!reward).*",
        "Reward of greedy answers": r"validation/reward|greedy/total",
    },
}


Bounds = tuple[float, float, float]  # low, value, high
Whiskers = Mapping[str, Sequence[tuple[str, Bounds]]]  # title of a panel: its lines, from top to bottom

_ACROSS = 4  # panels of whiskers in a line
_MANY = 30  # points: from here on a curve is drawn faint, with the mean over the last tenth of them in full colour


def attempts(stage: Path) -> list[Path]:
    """Return the logs of a stage, a resumed stage's attempts in their order."""
    logs = stage.glob("logs/attempt_*/metrics.csv")
    return sorted(logs, key=lambda path: int(path.parent.name.removeprefix("attempt_")))


def read_curves(logs: Iterable[Path]) -> dict[str, dict[int, float]]:
    """Return columns of ``metrics.csv`` files as {column: {step: value}}.

    Args:
        logs: of one stage, a resumed stage's attempts in their order: a step done again counts as it was done last.

    Raises:
        CtrlRecError: if a file has no column ``step`` or a value is not a number.
    """
    curves: dict[str, dict[int, float]] = {}
    for log in logs:
        with log.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                try:
                    step = int(float(row["step"]))
                    for name, text in row.items():
                        if text and name not in ("step", "epoch"):
                            curves.setdefault(name, {})[step] = float(text)
                except (KeyError, TypeError, ValueError) as error:
                    raise CtrlRecError(f"{log}: expected numbers under a header with 'step' ({error!r})") from None
    return curves


def draw(curves: Mapping[str, Mapping[int, float]], panels: Panels, png: Path) -> bool:
    """Draw columns ``{column: {step: value}}``, one panel beside the other.

    Returns:
        Whether there was anything to draw; nothing is written otherwise.
    """
    chosen = {title: [name for name in curves if re.fullmatch(columns, name)] for title, columns in panels.items()}
    chosen = {title: names for title, names in chosen.items() if names}
    if not chosen:
        return False
    figure = Figure(figsize=(5 * len(chosen), 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, names) in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen.items(), strict=True):
        for name in names:
            steps, values = zip(*sorted(curves[name].items()), strict=True)
            if len(steps) < _MANY:
                axes.plot(steps, values, marker=".", label=name)
                continue
            (raw,) = axes.plot(steps, values, alpha=0.2)
            window = len(steps) // 10
            means = np.convolve(values, np.ones(window) / window, mode="valid")
            axes.plot(steps[window - 1 :], means, color=raw.get_color(), label=name)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    _save(figure, png)
    return True


def draw_whiskers(panels: Whiskers, png: Path, unit: str, zero: bool = False) -> None:
    """Draw intervals in panels: a dot at each value, a line from its low to its high end.

    Args:
        panels: at least one, each with at least one line.
        png: file to write.
        unit: of all values.
        zero: whether to mark 0, of which differences are to stay clear.
    """
    across = min(len(panels), _ACROSS)
    down = -(-len(panels) // across)
    highest = max(map(len, panels.values()))
    figure = Figure(figsize=(3.4 * across, down * (1 + 0.28 * highest)), layout="constrained")
    FigureCanvasAgg(figure)
    places = iter(figure.subplots(down, across, squeeze=False).flat)
    for (title, lines), axes in zip(panels.items(), places, strict=False):
        for place, (_, (low, value, high)) in enumerate(lines):
            (drawn,) = axes.plot([low, high], [place, place], linewidth=2, color=f"C{place}" if not zero else "C0")
            axes.plot(value, place, marker="o", color=drawn.get_color())
        if zero:
            axes.axvline(0, color="black", linewidth=0.8)
        axes.set(title=title, xlabel=unit, ylim=(len(lines) - 0.5, -0.5))
        axes.set_yticks(range(len(lines)), [label for label, _ in lines])
        axes.grid(axis="x", alpha=0.3)
    for axes in places:
        axes.remove()  # nothing is left for it
    _save(figure, png)


def _save(figure: Figure, png: Path) -> None:
    temporary = png.with_name(png.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=120)
    temporary.replace(png)
