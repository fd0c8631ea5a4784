"""The figures of the page."""

from ctrlrec.reporting.page.figures import scatters
from ctrlrec.reporting.page.material import Material
from ctrlrec.reporting.rows import Row


def cell(value: float) -> dict:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 50}


def test_the_best_list_is_a_dot_beside_the_rows_of_a_blend() -> None:
    rows = [
        Row("v2", {"blend_2": {"HR@10": cell(0.1), "all_satisfied": cell(0.6), "HR@10_best": cell(0.3)}}),
        Row("full", {"blend_2": {"HR@10": cell(0.2), "all_satisfied": cell(0.7)}}),
    ]
    ((caption, drawing),) = scatters(Material("grid", [], rows))
    assert "two" in caption.lower()
    text = str(drawing)
    assert all(name in text for name in ("v2", "full", "best list", "30.0", "100.0"))


def test_without_its_number_the_best_list_is_not_drawn() -> None:
    rows = [Row("v2", {"blend_2": {"HR@10": cell(0.1), "all_satisfied": cell(0.6)}})]
    ((_, drawing),) = scatters(Material("grid", [], rows))
    assert "best list" not in str(drawing) and "v2" in str(drawing)
