"""Drawings as inline SVG: they need no script, scale with the page and print as they are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import Markup

from ctrlrec.runtime.escaping import inert

Element = ElementTree.Element
STYLES = 8  # colours and line patterns of page/style.css, used in turn


def style(place: int) -> str:
    """Return the class that gives a row its colour and line pattern."""
    return f"s{place % STYLES}"


@dataclass(frozen=True)
class Scale:
    """A linear map from values to places on an axis.

    Attributes:
        low: value at ``start``; ``high`` the value at ``end``.
        high: value at ``end``.
        start: place in units of the drawing.
        end: place in units of the drawing; below ``start`` for an axis that points up.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value; values beyond the axis stand at its end."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + min(1.0, max(0.0, share)) * (self.end - self.start), 1)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round values on the axis, at most ``most`` and one more."""
        width = (self.high - self.low) or 1.0
        power = 10.0 ** math.floor(math.log10(width / most))
        step = next(power * size for size in (1, 2, 2.5, 5, 10) if width / (power * size) <= most)
        first = math.ceil(self.low / step - 1e-9)
        return [round(number * step, 10) for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def around(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """Return the ends of an axis that holds all values with a margin on both sides, but none below 0 without need."""
    low, high = min(values), max(values)
    gap = (high - low) * margin or abs(high) * margin or 1.0
    return (max(0.0, low - gap) if low >= 0 else low - gap), high + gap


def number(value: float) -> str:
    """Return a tick's value as short text with a real minus sign."""
    return f"{value:.4g}".replace("-", "−")


def width_of(text: str) -> float:
    """Return about how wide a bold label is."""
    return 7.2 * len(text)


class Drawing:
    """An SVG image with a title and a description for those who cannot see it.

    Args:
        width: in units of the drawing.
        height: in units of the drawing.
        title: what it is; empty for a decoration that is described elsewhere.
        description: what it shows, in words.
        kind: class of the element.
    """

    def __init__(self, width: float, height: float, title: str = "", description: str = "", kind: str = "chart"):
        self.root = Element("svg", {"viewBox": f"0 0 {width:g} {height:g}", "class": kind})
        if title:
            self.root.set("role", "img")
            self.root.set("aria-label", inert(title))
            self.add("desc", description)
        else:
            self.root.set("aria-hidden", "true")

    def add(self, tag: str, text: str = "", parent: Element | None = None, **attributes: object) -> Element:
        """Add an element; an underscore in a name stands for a hyphen, and a trailing one is dropped."""
        named = {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()}
        element = ElementTree.SubElement(self.root if parent is None else parent, tag, named)
        element.text = inert(text) or None
        return element

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str, parent: Element | None = None) -> None:
        """Add a straight line."""
        self.add("line", "", parent, x1=f"{x1:g}", y1=f"{y1:g}", x2=f"{x2:g}", y2=f"{y2:g}", class_=kind)

    def label(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Add text whose base line starts, ends or is centred at a place."""
        self.add("text", text, x=f"{x:g}", y=f"{y:g}", class_=f"label {kind}".strip(), text_anchor=anchor)

    def curve(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Add a line through points."""
        self.add("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in points), class_=kind)

    def area(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Add a filled area with the points as its corners."""
        self.add("polygon", points=" ".join(f"{x:g},{y:g}" for x, y in points), class_=kind)

    @property
    def markup(self) -> Markup:
        """Return the image as markup; all text in it is escaped."""
        return Markup(ElementTree.tostring(self.root, encoding="unicode"))
