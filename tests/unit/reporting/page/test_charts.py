"""Drawings show the numbers at their places, and can be read in both colour schemes."""

import json
import re
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
from evaluations import CATALOGUE

from ctrlrec.reporting.page.charts import Effect, Point, forest, scatter, whisker
from ctrlrec.reporting.page.lines import curve, line_chart
from ctrlrec.reporting.page.material import parts_of
from ctrlrec.reporting.page.svg import Drawing, Scale, around
from ctrlrec.rewards.reward import Reward

REWARD = {
    "name": "paper", "item": "paper", "list": "paper", "item_weight": 1.0, "list_weight": 10.0,
    "preference_share": 0.5, "additive_at_items": False,
}  # fmt: skip


def parsed(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(markup))


def test_ticks_are_round_and_on_the_axis() -> None:
    assert Scale(0, 1, 0, 100).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert Scale(-3.1, 7.2, 0, 100).ticks() == [-2.5, 0, 2.5, 5]
    assert Scale(0.0013, 0.0039, 0, 9).ticks(3) == [0.002, 0.003]
    assert Scale(5, 5, 0, 1).ticks() == [5]
    assert Scale(0, 10, 100, 0)(2.5) == 75 and Scale(0, 10, 0, 100)(99) == 100


def test_an_axis_of_shares_does_not_go_below_0() -> None:
    assert around([0.0, 0.5])[0] == 0 and around([0.0, 0.0]) == (0, 1)
    low, high = around([-1.0, 1.0])
    assert low < -1 and high > 1


def test_a_whisker_is_drawn_on_the_scale_of_its_column() -> None:
    drawn = parsed(whisker((2, 5, 10), (0, 10)))
    (dot,), lines = drawn.findall("circle"), drawn.findall("line")
    assert float(dot.attrib["cx"]) == pytest.approx(32) and drawn.attrib["aria-hidden"] == "true"
    assert [float(lines[1].attrib[end]) for end in ("x1", "x2")] == pytest.approx([14.6, 61])


def test_better_is_on_the_right_whatever_the_metric() -> None:
    effects = [
        Effect("nothing asked", "HR@10 ↑", (-2, 1, 4), "+1.0", "", False),
        Effect("", "RepeatItem@K ↓", (-15, -10, -5), "−10.0", "better", True),
        Effect("", "TCP@10 ↓", (5, 10, 15), "+10.0", "worse", True),
    ]
    drawn = parsed(forest("full", "v2", effects))
    assert drawn.attrib["aria-label"] == "full minus v2"
    assert drawn.find("desc").text == "3 differences with intervals; 1 better and 1 worse beyond chance."
    (zero,) = [line for line in drawn.findall("line") if line.attrib["class"] == "zero"]
    middle = float(zero.attrib["x1"])
    ends = [[float(group.find("line").attrib[end]) for end in ("x1", "x2")] for group in drawn.findall("g")]
    assert ends[0][0] < middle < ends[0][1] and min(ends[1]) > middle and max(ends[2]) < middle
    assert [group.attrib["class"] for group in drawn.findall("g")] == ["unsure", "better", "worse"]
    assert drawn.find("g/title").text == "HR@10 ↑: +1.0, not beyond chance"
    assert [len(group.findall("rect")) for group in drawn.findall("g")] == [0, 1, 1]  # not by colour alone


def test_dots_of_a_scatter_grow_with_diversity_and_are_as_before_without_it() -> None:
    points = [
        Point(name, place, (1.0, 2.0 + place, 3.0 + place), (1.0, 2.0, 3.0), diversity)
        for place, (name, diversity) in enumerate({"plain": None, "narrow": 0.1, "varied": 0.9}.items())
    ]
    text = str(scatter("t", "x", "y", points))
    radii = [float(found) for found in re.findall(r' r="([0-9.]+)"', text)]
    assert radii[0] == 4.5 and radii[1] < radii[0] < radii[2]
    assert "varied: x 4.0, y 2.0, diversity 0.90" in text and "plain: x 2.0, y 2.0<" in text


def test_names_of_a_scatter_do_not_cover_one_another() -> None:
    points = [Point(f"row{place}", place, (10, 12, 14), (50, 60 + place / 9, 70)) for place in range(8)]
    drawn = parsed(scatter("t", "x", "y", points))
    places = [
        (float(text.attrib["x"]), float(text.attrib["y"]), text.attrib["text-anchor"])
        for text in drawn.findall("text") if "halo" in text.attrib["class"]
    ]  # fmt: skip
    assert len(places) == 8
    for number, (x, y, side) in enumerate(places):
        assert all(side != other[2] or abs(x - other[0]) > 30 or abs(y - other[1]) >= 12 for other in places[:number])


def test_a_curve_is_the_mean_of_its_seeds_over_shared_steps() -> None:
    found = curve("full", 3, [{0: 1.0, 1: 2.0, 2: 9.0}, {0: 3.0, 1: 6.0}])
    assert found is not None
    assert (found.steps, found.means, found.lows, found.highs) == ([0, 1], [2, 4], [1, 2], [3, 6])
    assert curve("full", 0, [{0: 1.0}, {5: 1.0}]) is None and curve("full", 0, []) is None
    long = curve("v2", 0, [{step: float(step % 2) for step in range(1000)}])
    assert long is not None and len(long.steps) == 120 and long.steps[0] == 99 and set(long.means) == {0.5}
    drawn = parsed(line_chart("Reward", [found, long], "iteration"))
    assert drawn.find("desc").text == "full from 2 to 4; v2 from 0.5 to 0.5."
    assert len(drawn.findall("polygon")) == 1 and len(drawn.findall("polyline")) == 2
    assert [text.text for text in drawn.findall("text") if "named" in text.attrib["class"]] == ["full", "v2"]


def test_the_parts_of_the_reward_add_up(tmp_path: Path) -> None:
    def answer(iteration: int, titles: list[str]) -> str:
        ranks = [None if title in ("Alien", "Nobody") else 4 for title in titles]
        record = {"iteration": iteration, "task": "category_positive", "user": "u1", "history": ["Alien"],
                  "target": "Clerks", "item_count": 3, "category": "Horror", "proportion": None, "candidates": None,
                  "titles": titles, "teacher_rank": ranks}  # fmt: skip
        return json.dumps(record) + "\n"

    path = tmp_path / "rollouts.jsonl"
    path.write_text(answer(0, ["Clerks", "Fargo", "Nobody"]) + answer(0, ["Clerks"]) + answer(1, ["Clerks"]))
    parts = parts_of(path, CATALOGUE, Reward.of_run(REWARD))
    assert list(parts) == ["items: preference", "items: control", "illegal items", "list: preference", "list: control"]
    # Clerks is the target (1) in the category (1); Fargo of rank 4 earns 1/log2(7) and is outside (0).
    fargo = 0.3562071871080222
    assert parts["items: preference"] == pytest.approx({0: 0.5 * (1 + fargo + 1) / 2, 1: 0.5})
    assert parts["items: control"] == pytest.approx({0: 0.5, 1: 0.5})
    assert parts["illegal items"] == pytest.approx({0: -0.5, 1: 0})
    # Two of three items are missing in the category, so the control of the list is 1/log2(4).
    assert parts["list: control"] == pytest.approx({0: 2.5, 1: 2.5})
    assert parts["list: preference"][1] == pytest.approx(5.0)


def test_text_in_a_drawing_is_escaped() -> None:
    drawing = Drawing(10, 10, 'a "title" <x>', "a & b")
    drawing.label(0, 0, "<script>\x00")
    assert str(drawing.markup).count("<") == 6 and "&lt;script&gt;" in drawing.markup and "&amp; b" in drawing.markup


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_colour_of_text_is_readable_on_both_grounds(scheme: int) -> None:
    """WCAG 2.1, 1.4.3: a contrast of 4.5 for text; lines bear the same colours as their names."""
    style = resources.files("ctrlrec.reporting.page").joinpath("templates/style.css").read_text(encoding="utf-8")
    colours = dict(
        re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme])
    )
    assert len(colours) == 17
    for ground in ("back", "card"):
        for name in colours.keys() - {"back", "card", "rule"}:
            low, high = sorted((_luminance(colours[name]), _luminance(colours[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, ground)
