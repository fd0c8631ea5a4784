"""Charts of the page: whiskers, forest plots of comparisons, accuracy against control."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from ctrlrec.reporting.page.svg import Drawing, Scale, around, number, style, width_of

Bounds = tuple[float, float, float]  # low, value, high


def whisker(bounds: Bounds, axis: tuple[float, float]) -> Markup:
    """Return an interval as a small line with a dot at the value.

    Args:
        bounds: of the number.
        axis: smallest and largest value of the column, so that the whiskers of a column can be compared.
    """
    width = 64.0
    scale = Scale(*axis, 3, width - 3)
    drawing = Drawing(width, 8, kind="whisker")
    low, value, high = map(scale, bounds)
    drawing.line(3, 4, width - 3, 4, "rail")
    drawing.line(low, 4, high, 4, "reach")
    drawing.add("circle", cx=f"{value:g}", cy="4", r="2.4", class_="dot")
    return drawing.markup


@dataclass(frozen=True)
class Effect:
    """A line of a forest plot.

    Attributes:
        section: setting, set above its first line; empty for a line of the section before.
        label: metric.
        bounds: of the difference.
        text: difference and interval, as printed.
        verdict: "better" or "worse" if that is sure, else empty.
        falling: whether a smaller number is better, so that the line is drawn mirrored.
    """

    section: str
    label: str
    bounds: Bounds
    text: str
    verdict: str
    falling: bool


_WORDS = {"better": "better beyond chance", "worse": "worse beyond chance", "": "not beyond chance"}


def forest(better: str, worse: str, effects: Sequence[Effect]) -> Markup:
    """Return the differences between two rows with their intervals, drawn so that right of the zero line is better."""
    line, head, names, texts = 19, 22, 118, 320
    sections = sum(bool(effect.section) for effect in effects)
    height = head + line * (len(effects) + sections) + 24
    sure = {verdict: sum(effect.verdict == verdict for effect in effects) for verdict in ("better", "worse")}
    drawing = Drawing(
        470,
        height,
        f"{better} minus {worse}",
        f"{len(effects)} differences with intervals; {sure['better']} better and {sure['worse']} worse beyond chance.",
        "chart forest",
    )
    mirrored = [_mirrored(effect) for effect in effects]
    largest = max((abs(end) for bounds in mirrored for end in bounds), default=1.0) or 1.0
    scale = Scale(-largest, largest, names, texts - 8)
    middle = scale(0)
    drawing.label(middle - 8, 12, "← worse", "muted", "end")
    drawing.label(middle + 8, 12, "better →", "muted")
    y = head
    for effect, (low, value, high) in zip(effects, mirrored, strict=True):
        if effect.section:
            drawing.label(0, y + 14, effect.section, "strong")
            y += line
        drawing.label(10, y + 13, effect.label)
        group = drawing.add("g", class_=effect.verdict or "unsure")
        drawing.add("title", f"{effect.label}: {effect.text}, {_WORDS[effect.verdict]}", group)
        drawing.line(scale(low), y + 9, scale(high), y + 9, "reach", group)
        if effect.verdict:  # a filled mark is sure, an open one is not: colour alone says nothing
            drawing.add("rect", "", group, x=f"{scale(value) - 4:g}", y=y + 5, width=8, height=8, class_="dot")
        else:
            drawing.add("circle", "", group, cx=f"{scale(value):g}", cy=y + 9, r=3.5, class_="dot")
        drawing.label(texts, y + 13, effect.text, "number")
        y += line
    drawing.line(middle, head, middle, y + 2, "zero")
    for tick in scale.ticks(4):
        drawing.line(scale(tick), y + 2, scale(tick), y + 6, "axis")
        drawing.label(scale(tick), y + 18, number(abs(tick)), "muted", "middle")
    return drawing.markup


def _mirrored(effect: Effect) -> Bounds:
    low, value, high = effect.bounds
    return (-high, -value, -low) if effect.falling else effect.bounds


@dataclass(frozen=True)
class Point:
    """A row in a scatter.

    Attributes:
        name: of the row.
        place: in the order of rows.
        x: accuracy with its interval.
        y: control with its interval.
        diversity: between 0 and 1, the size of its dot; None for one of the usual size.
    """

    name: str
    place: int
    x: Bounds
    y: Bounds
    diversity: float | None = None

    @property
    def radius(self) -> float:
        """Return the radius of the dot."""
        return 4.5 if self.diversity is None else round(2 + 7 * self.diversity, 2)

    @property
    def varied(self) -> str:
        """Return the diversity in words; nothing without one."""
        return "" if self.diversity is None else f", diversity {self.diversity:.2f}"


def scatter(title: str, x_label: str, y_label: str, points: Sequence[Point]) -> Markup:
    """Return rows as points with whiskers in both directions, each with its name."""
    width, height, left, right, top, bottom = 340, 260, 44, 10, 12, 42
    told = "; ".join(f"{point.name}: {point.x[1]:.1f} and {point.y[1]:.1f}{point.varied}" for point in points)
    drawing = Drawing(width, height, title, f"{x_label} and {y_label}. {told}.", "chart scatter")
    x = Scale(*around([end for point in points for end in point.x]), left, width - right)
    y = Scale(*around([end for point in points for end in point.y]), height - bottom, top)
    frame(drawing, x, y, x_label, y_label)
    taken = [_Box(x(point.x[1]) - 5, y(point.y[1]) - 5, 10, 10) for point in points]
    for point in points:
        group = drawing.add("g", class_=style(point.place))
        drawing.add(
            "title", f"{point.name}: {x_label} {point.x[1]:.1f}, {y_label} {point.y[1]:.1f}{point.varied}", group
        )
        across, up = x(point.x[1]), y(point.y[1])
        drawing.line(x(point.x[0]), up, x(point.x[2]), up, "reach", group)
        drawing.line(across, y(point.y[0]), across, y(point.y[2]), "reach", group)
        drawing.add("circle", "", group, cx=f"{across:g}", cy=f"{up:g}", r=point.radius, class_="dot")
    for point in points:  # names lie over all lines
        box, anchor = _free(x(point.x[1]), y(point.y[1]), width_of(point.name), taken, width, height - bottom)
        taken.append(box)
        at = box.x if anchor == "start" else box.x + box.width
        drawing.label(at, box.y + 10, point.name, f"named halo {style(point.place)}", anchor)
    return drawing.markup


class _Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float

    def meets(self, other: "_Box") -> bool:
        apart = self.x + self.width <= other.x or other.x + other.width <= self.x
        return not (apart or self.y + self.height <= other.y or other.y + other.height <= self.y)


def _free(x: float, y: float, width: float, taken: Sequence[_Box], right: float, bottom: float) -> tuple[_Box, str]:
    """Return where a name stands beside its point, and its anchor: the nearest place that nothing else takes.

    Args:
        x: of the point.
        y: of the point.
        width: of the name.
        taken: points and names.
        right: end of the drawing.
        bottom: end of the frame.
    """
    heights = sorted(range(-70, 71, 7), key=lambda shift: (abs(shift + 7), shift))
    places = [(_Box(x + 7, y + shift - 5, width, 12), "start") for shift in heights]
    places += [(_Box(x - 7 - width, y + shift - 5, width, 12), "end") for shift in heights]
    inside = [
        place for place in places if place[0].x > 44 and place[0].x + width < right and 0 < place[0].y < bottom - 12
    ]
    inside.sort(key=lambda place: abs(place[0].y + 12 - y))
    free = (place for place in inside if not any(place[0].meets(other) for other in taken))
    return next(free, (inside or places)[0])


def frame(drawing: Drawing, x: Scale, y: Scale, x_label: str, y_label: str) -> None:
    """Add axes with ticks, grid lines and their names to a drawing."""
    for tick in y.ticks():
        drawing.line(x.start, y(tick), x.end, y(tick), "grid")
        drawing.label(x.start - 5, y(tick) + 4, number(tick), "muted", "end")
    for tick in x.ticks():
        drawing.line(x(tick), y.start, x(tick), y.start + 4, "axis")
        drawing.label(x(tick), y.start + 16, number(tick), "muted", "middle")
    drawing.line(x.start, y.start, x.end, y.start, "axis")
    drawing.label((x.start + x.end) / 2, y.start + 32, x_label, "muted", "middle")
    if y_label:
        middle = (y.start + y.end) / 2
        drawing.add("text", y_label, x=12, y=f"{middle:g}", class_="label muted", text_anchor="middle",
                    transform=f"rotate(-90 12 {middle:g})")  # fmt: skip
