"""Metrics beside those of the paper's questions: a summary and comparisons for each family of them."""

from collections.abc import Sequence
from pathlib import Path

from ctrlrec.evaluation.metrics import families
from ctrlrec.reporting.comparisons import Comparison, comparison_grid
from ctrlrec.reporting.render import Grid, markdown
from ctrlrec.reporting.rows import Row
from ctrlrec.reporting.summary import summary
from ctrlrec.reporting.tables import write_grid
from ctrlrec.runtime.files import write_text


def grids(rows: Sequence[Row], found: Sequence[Comparison]) -> dict[str, tuple[Grid, Grid | None]]:
    """Return summary and comparisons of each family that some row has numbers of; None without a pair.

    Holm's correction is over the differences of one family, so that one more family changes no verdict.

    Args:
        rows: in any order.
        found: comparisons of the rows.
    """
    made = {}
    for family in filter(None, families()):
        shown = summary(rows, family)
        if shown.rows:
            made[family] = shown, comparison_grid(found, family)
    return made


def pages() -> list[str]:
    """Return the names of the files that :func:`write_families` may write, comparisons aside."""
    return [f"{_file(family)}.md" for family in filter(None, families())]


def write_families(rows: Sequence[Row], found: Sequence[Comparison], directory: Path) -> list[Path]:
    """Write ``FAMILY.md``, and ``comparisons-FAMILY.*`` if there is a pair; return their paths.

    Args:
        rows: in any order.
        found: comparisons of the rows.
        directory: an existing one.
    """
    written = []
    for family, (shown, compared) in grids(rows, found).items():
        name = _file(family)
        write_text(directory / f"{name}.md", markdown(shown))
        written.append(directory / f"{name}.md")
        if compared is not None:
            written += write_grid(compared, directory / f"comparisons-{name}")
    return written


def _file(family: str) -> str:
    return family.replace(" ", "_")
