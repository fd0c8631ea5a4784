"""Learning curves and the parts of the reward as line charts."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ctrlrec.reporting.page.charts import frame
from ctrlrec.reporting.page.svg import Drawing, Scale, around, style, width_of

Run = Mapping[int, float]  # value by step
_MANY = 30  # steps; from here on a curve shows the mean over a tenth of them
_POINTS = 120  # drawn of a curve


@dataclass(frozen=True)
class Curve:
    """A curve of one row: the mean over its seeds, and the range between them.

    Attributes:
        name: of the row.
        place: that decides its colour and line pattern.
        steps: drawn steps.
        means: values at the steps.
        lows: smallest value of a seed at each step; ``highs`` the largest.
        highs: largest value of a seed.
    """

    name: str
    place: int
    steps: Sequence[float]
    means: Sequence[float]
    lows: Sequence[float]
    highs: Sequence[float]


def curve(name: str, place: int, runs: Sequence[Run]) -> Curve | None:
    """Return one row's curve from the runs of its seeds, over the steps that all of them logged; None without any."""
    steps = np.array(sorted(set.intersection(*(set(run) for run in runs)))) if runs else np.array([])
    if not len(steps):
        return None
    values = np.array([[run[step] for step in steps] for run in runs])
    if len(steps) >= _MANY:
        window = len(steps) // 10
        values = np.stack([np.convolve(run, np.ones(window) / window, mode="valid") for run in values])
        steps = steps[window - 1 :]
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _POINTS)).round().astype(int))
    steps, values = steps[chosen], values[:, chosen]
    parts = (steps, values.mean(0), values.min(0), values.max(0))
    return Curve(name, place, *(part.tolist() for part in parts))


def line_chart(title: str, curves: Sequence[Curve], x_label: str) -> Markup:
    """Return curves in one frame; the range of several seeds is shaded, and each curve has its name at its end."""
    width, height, left, top, bottom = 400, 230, 46, 10, 40
    right = max(width_of(one.name) for one in curves) + 10
    told = "; ".join(f"{one.name} from {one.means[0]:.3g} to {one.means[-1]:.3g}" for one in curves)
    drawing = Drawing(width, height, title, f"{told}.", "chart lines")
    steps = [step for one in curves for step in (one.steps[0], one.steps[-1])]
    ends = [value for one in curves for value in (*one.lows, *one.highs)]
    x = Scale(min(steps), max(steps), left, width - right)
    y = Scale(*around(ends), height - bottom, top)
    frame(drawing, x, y, x_label, "")
    for one in curves:
        if one.lows != one.highs:
            there = [(x(step), y(high)) for step, high in zip(one.steps, one.highs, strict=True)]
            back = [(x(step), y(low)) for step, low in zip(one.steps, one.lows, strict=True)]
            drawing.area([*there, *reversed(back)], f"band {style(one.place)}")
    for one in curves:
        points = [(x(step), y(mean)) for step, mean in zip(one.steps, one.means, strict=True)]
        if len(points) > 1:
            drawing.curve(points, f"curve {style(one.place)}")
        else:
            drawing.add("circle", cx=points[0][0], cy=points[0][1], r=3, class_=f"point {style(one.place)}")
    heights = _apart([y(one.means[-1]) for one in curves], top + 8, height - bottom)
    for one, place in zip(curves, heights, strict=True):
        drawing.label(x(one.steps[-1]) + 5, place + 4, one.name, f"named {style(one.place)}")
    return drawing.markup


def _apart(places: Sequence[float], top: float, bottom: float, gap: float = 13) -> list[float]:
    """Return heights near the given ones that are at least a line of text apart, within the frame if they fit."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    heights = list(places)
    for before, after in itertools.pairwise(order):
        heights[after] = max(heights[after], heights[before] + gap)
    limit = bottom
    for index in reversed(order):
        heights[index] = min(heights[index], limit)
        limit = heights[index] - gap
    return [max(top, height) for height in heights]
