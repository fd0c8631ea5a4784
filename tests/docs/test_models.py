"""The released models in ``models/``: whole, small, without data that may not be passed on, and as good as they say."""

import json
from pathlib import Path

import pytest

from ctrlrec.app import loading, release
from ctrlrec.app.again import answers, metrics_from
from ctrlrec.errors import CtrlRecError
from ctrlrec.runtime.files import check_files

MODELS = sorted(path.parent for path in (Path(__file__).parents[2] / "models").glob(f"*/{loading.RECORD}"))


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_a_released_model_is_whole_and_small(model: Path) -> None:
    check_files(model)
    assert release.weight_bytes(model) <= release.LARGEST
    record = json.loads((model / loading.RECORD).read_text())
    assert (record["format"], record["name"]) == (loading.FORMAT, model.name)
    assert not str(record["made"]["git_commit"]).endswith("-dirty")
    if record["config"]["dataset"]["source"] != "records":
        assert not (model / "data").exists() and record["data"]["titles"] == "fetched"
    metrics = json.loads((model / "metrics.json").read_text())["settings"]
    assert set(metrics) == set(record["config"]["evaluation"]["settings"])


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_the_row_of_a_released_model_is_that_of_its_weights(model: Path) -> None:
    try:
        parts = loading.load(model)
    except CtrlRecError as error:
        pytest.skip(f"its data cannot be fetched: {error}")
    if not len(parts.builder.sequences):
        pytest.skip("it was packed without the users whose questions its row holds")
    kept = json.loads((model / "metrics.json").read_text())["settings"]
    found = metrics_from(answers(parts, parts.builder, parts.config), parts.config, parts.builder)["settings"]
    for setting, cells in kept.items():
        for name, cell in cells.items():  # another processor rounds otherwise, and an answer may differ
            assert found[setting][name]["value"] == pytest.approx(cell["value"], abs=0.01), (setting, name)
