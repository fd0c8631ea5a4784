"""How the tests of the data room prepare a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dataset_files import all_writable, config, uncut

from ctrlrec.data.prepare import Cut, Prepared, Writable, prepare


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Prepared]:
    """Prepare the folder ``tmp_path / "in"`` (or ``path=``) as some source, with thresholds of 1."""

    def run(source: str, cut: Cut = uncut, writable: Writable = all_writable, **settings: Any) -> Prepared:
        return prepare(config(source, tmp_path / "in", **settings), tmp_path / "cache", cut, writable)

    (tmp_path / "in").mkdir()
    return run
