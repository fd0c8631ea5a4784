"""The figures of the page: which charts are drawn of what a grid holds."""

from collections.abc import Mapping

from markupsafe import Markup

from ctrlrec.evaluation.metrics.blends import BEST_HIT
from ctrlrec.evaluation.settings import SETTINGS
from ctrlrec.reporting.columns import Column
from ctrlrec.reporting.page.charts import Effect, Point, forest, scatter
from ctrlrec.reporting.page.lines import Run, curve, line_chart
from ctrlrec.reporting.page.material import Curves, Material
from ctrlrec.reporting.page.words import asked
from ctrlrec.reporting.render import Grid

Figures = list[tuple[str, Markup]]  # (caption, drawing)

# For each setting a forest plot shows one metric of accuracy, one of control and one of form; the table has them all.
_LEADING = ("HR@10", "HR@K", "TCP@10", "CPA", "all_satisfied", "RepeatItem@K")
_VERDICTS = {"best": "better", "second": "worse"}

_STAGES: Mapping[str, tuple[str, str, Mapping[str, str]]] = {  # by stage: its title, name of a step, columns by caption
    "teacher": ("Teacher", "epoch", {"Training loss": "train/loss", "NDCG@10 on validation": "validation/NDCG@10"}),
    "sl": ("Supervised learning (SL)", "step",
           {"Training loss per token": "train/loss", "Validation loss per token": "validation/loss"}),
    "rl": (
        "Reinforcement learning (RL)",
        "iteration",
        {
            "Reward of an answer": "reward/total",
            "Repeated items, share": "illegal/repeat",
            "Invented items, share": "illegal/nonexistent",
            "Answers of the length asked for, share": "answer/right_count",
            "KL to the SL model per token": "kl/reference",
            "Reward of greedy answers on validation": "validation/reward",
        },
    ),
}  # fmt: skip
_LOGGED_PARTS = {"items": "reward/item", "list": "reward/list"}


def forests(grid: Grid) -> Figures:
    """Return a forest plot for each pair of a grid of comparisons."""
    figures: Figures = []
    for place, head in enumerate(grid.heads[:-1]):
        effects, section, done = [], "", ""
        for (setting, metric), cells in grid.rows:
            section, cell = setting or section, cells[place]
            named = metric.split()[0] in _LEADING or section == "formatting"
            if not named or cell.bounds is None:
                continue
            text = f"{cell.value} {cell.interval}".replace("-", "−")
            effects.append(
                Effect(
                    asked(section) if section != done else "",
                    metric,
                    cell.bounds,
                    text,
                    _VERDICTS.get(cell.mark, ""),
                    metric.endswith("↓"),
                )
            )
            done = section
        better, _, worse = head.partition(" - ")
        if effects:
            figures.append((f"{better} against {worse}", forest(better, worse, effects)))
    return figures


def learning_curves(material: Material) -> list[tuple[str, Figures]]:
    """Return the curves of every stage that logged any, one chart a column."""
    stages = []
    for stage, (title, step, columns) in _STAGES.items():
        figures = [
            (caption, chart)
            for caption, column in columns.items()
            if (chart := _by_row(caption, material.curves.get(stage, {}), column, step, material))
        ]
        if figures:
            stages.append((title, figures))
    return stages


def _by_row(caption: str, runs: Curves, column: str, step: str, material: Material) -> Markup | None:
    places = {row.name: place for place, row in enumerate(material.rows)}
    by_row: dict[str, list[Run]] = {}
    for (row, _), columns in runs.items():
        if column in columns:
            by_row.setdefault(row, []).append(columns[column])
    curves = [curve(row, places.get(row, 0), found) for row, found in by_row.items()]
    drawn = [one for one in curves if one]
    return line_chart(caption, drawn, step) if drawn else None


def rewards(material: Material) -> tuple[str, Figures]:
    """Return how the parts of the reward went in each row with RL, and what the parts are."""
    if material.rewards:
        note = (
            "Mean reward of an answer by RL iteration, with its weights: preference (the teacher's rank) and control "
            "of legal items, what illegal items cost, and the two halves of the list reward. The parts add up to it."
        )
        return note, _parts(material.rewards, None)
    note = (
        "Mean item rewards and list reward of an answer by RL iteration, before their weights. The answers themselves "
        "are not kept here, so preference and control are not told apart."
    )
    return note, _parts(material.curves.get("rl", {}), _LOGGED_PARTS)


def _parts(runs: Curves, named: Mapping[str, str] | None) -> Figures:
    figures: Figures = []
    for row in dict.fromkeys(row for row, _ in runs):
        seeds = [columns for (name, _), columns in runs.items() if name == row]
        names = named or {part: part for part in seeds[0]}
        curves = [
            curve(part, place, [columns[column] for columns in seeds if column in columns])
            for place, (part, column) in enumerate(names.items())
        ]
        drawn = [one for one in curves if one]
        if drawn:
            figures.append((row, line_chart(f"Parts of the reward of {row}", drawn, "iteration")))
    return figures


def scatters(material: Material) -> Figures:
    """Return HR@10 against the measure of control in each setting that asks for one; dots grow with diversity.

    A blend has one dot more: the teacher's best list of those that meet all conditions.
    """
    figures: Figures = []
    for name, setting in SETTINGS.items():
        if setting.control is None and not setting.conditions:
            continue
        accuracy, diversity = Column(name, "HR@10"), Column(name, "ILD@K")
        control = Column(name, "all_satisfied" if setting.conditions else setting.control.metric)  # type: ignore[union-attr]
        points = []
        for place, row in enumerate(material.rows):
            cells = accuracy.cell(row), control.cell(row)
            if cells[0] and cells[1]:
                across, up = accuracy.bounds(cells[0]), control.bounds(cells[1])
                if across and up:
                    varied = diversity.cell(row)
                    points.append(Point(row.name, place, across, up, varied["value"] if varied else None))
        if points and setting.conditions:
            points += _best_list(name, material)
        if points:
            label = f"{control.metric.name} (%) {control.metric.arrow}"
            figures.append(
                (asked(name), scatter(f"Accuracy against control: {asked(name)}", "HR@10 (%) ↑", label, points))
            )
    return figures


def _best_list(setting: str, material: Material) -> list[Point]:
    """Return the dot of the best list, from the row that was asked most; nothing if no row has its number."""
    column = Column(setting, BEST_HIT)
    known = [cell for row in material.rows if (cell := column.cell(row)) and column.bounds(cell)]
    if not known:
        return []
    across = column.bounds(max(known, key=lambda cell: cell["n"]))
    assert across is not None
    return [Point("best list", len(material.rows), across, (100.0, 100.0, 100.0))]
