import pytest
from PIL import Image

from ctrlrec.errors import CtrlRecError
from ctrlrec.reporting import figures


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_later_attempts_replace_steps_and_empty_fields_are_skipped(tmp_path):
    first = write(tmp_path / "a.csv", "epoch,step,reward/total,kl/policy", "0,0,1.0,", "0,1,2.0,0.5")
    second = write(tmp_path / "b.csv", "step,reward/total", "1,5.0", "2,6.0")
    assert figures.read_curves([first, second]) == {
        "reward/total": {0: 1.0, 1: 5.0, 2: 6.0},
        "kl/policy": {1: 0.5},
    }


def test_panels_that_have_columns_are_drawn(tmp_path):
    head = "step,reward/total,reward/total_sequential,illegal/repeat,kl/reference"
    log = write(tmp_path / "metrics.csv", head, "0,1,2,.1,.2", "1,2,3,.0,.1")
    logged = figures.read_curves([log])
    assert figures.draw(logged, figures.PANELS["rl"], tmp_path / "rl.png")
    with Image.open(tmp_path / "rl.png") as image:
        assert image.width > image.height > 100
    assert not list(tmp_path.glob("*.tmp"))
    assert not figures.draw(logged, figures.PANELS["sl"], tmp_path / "sl.png")
    assert not (tmp_path / "sl.png").exists()


@pytest.mark.parametrize("lines", [("epoch,loss", "0,1"), ("step,loss", "0,high"), ("step,loss", ",1")])
def test_broken_logs_are_named(tmp_path, lines):
    with pytest.raises(CtrlRecError, match=r"metrics\.csv: expected numbers under a header with 'step'"):
        figures.read_curves([write(tmp_path / "metrics.csv", *lines)])


def test_whiskers_wrap_into_lines_of_panels(tmp_path):
    panels = {f"metric {place}": [("v2", (0.0, 1.0, 2.0)), ("full", (1.0, 1.0, 1.0))] for place in range(5)}
    figures.draw_whiskers(panels, tmp_path / "five.png", "percent", zero=True)
    figures.draw_whiskers({"metric": panels["metric 0"]}, tmp_path / "one.png", "percent")
    with Image.open(tmp_path / "five.png") as five, Image.open(tmp_path / "one.png") as one:
        assert five.width == 4 * one.width and five.height == 2 * one.height
    assert not list(tmp_path.glob("*.tmp"))
