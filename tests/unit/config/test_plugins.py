"""A folder of one's own adds choices: modules and YAML files, for the command line, sweeps and ``compose``."""

import json
from pathlib import Path

import pytest
from command_line import call

from ctrlrec.config.choices import PLUGINS
from ctrlrec.config.compose import compose, variants
from ctrlrec.config.files import choices_of
from ctrlrec.data.sources import SOURCES
from ctrlrec.errors import CtrlRecError

SOURCE = "from ctrlrec.data.sources.records import SOURCE\n"
DATASET = "defaults: [records, _self_]\nname: shop\nsource: shop\nmin_user_interactions: 3\nmin_item_interactions: 1\n"
VARIANT = """# @package _global_
defaults: [full@_global_.variant, _self_]
variant: {name: slow, description: full with a slow RL, differs: [rl.learning_rate], table: {compared_with: [full]}}
rl: {learning_rate: 7.0e-7}
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my plug-in"
    for name, text in {
        "data/sources/shop.py": SOURCE, "conf/dataset/shop.yaml": DATASET, "conf/variant/slow.yaml": VARIANT,
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setenv(PLUGINS, str(folder))
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Six users who took the same four items."""
    (tmp_path / "shop").mkdir()
    rows = [f"u{user},i{item},{item}\n" for user in range(6) for item in range(4)]
    (tmp_path / "shop/interactions.csv").write_text("user,item,timestamp\n" + "".join(rows))
    items = [json.dumps({"item": f"i{item}", "title": f"Title {item}", "categories": ["c"]}) for item in range(4)]
    (tmp_path / "shop/items.jsonl").write_text("\n".join(items))
    return tmp_path / "shop"


def test_a_plugin_adds_choices_to_compose(plugin: Path) -> None:
    config = compose("dataset=shop", "variant=slow")
    assert (config.dataset.name, config.variant.name, config.rl.learning_rate) == ("shop", "slow", 7.0e-7)
    names = list(variants())
    assert names.index("slow") == names.index("full") + 1 and variants()["slow"].table.compared_with == ["full"]
    assert "shop" in SOURCES and "shop" in choices_of("dataset")


def test_a_file_that_would_hide_one_of_ours_is_refused(plugin: Path) -> None:
    (plugin / "conf/variant/full.yaml").write_text(VARIANT)
    with pytest.raises(CtrlRecError, match=r"conf/variant/full\.yaml: .* has the same name"):
        compose("variant=full")


def test_a_sweep_over_rows_of_a_plugin_runs_on_its_data(plugin: Path, shop: Path, tmp_path: Path) -> None:
    done = call(
        tmp_path, "-m", "variant=v2,slow", "stage=data", "dataset=shop", f"dataset.path={shop}", "logger=csv",
        "model.vocabulary=600", "trainer.threads=1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    (made,) = (tmp_path / "runs/data").glob("shop-llama_mini-*/provenance.json")
    assert json.loads(made.read_text())["config"]["dataset"]["source"] == "shop"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["variant=slw"], "did you mean 'slow'"),
        (["dataset=shopp"], "did you mean 'shop'"),
        (["dataset.source=shopp"], "did you mean 'shop'"),
        (["variant=v2", "variant.name=slow"], "that is the name of variant=slow"),
        (["variant.table.compared_with=[slw]"], "did you mean 'slow'"),
    ],
    ids=" ".join,
)
def test_messages_name_the_choices_of_a_plugin(plugin: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    done = call(tmp_path, *arguments)
    assert done.returncode == 1 and said in done.stderr.splitlines()[-1], done.stderr


def test_a_plugin_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, str(tmp_path / "gone"))
    done = call(tmp_path, "stage=data")
    assert done.returncode == 1 and done.stderr.splitlines() == [
        f"error: {PLUGINS}: {tmp_path}/gone is not a folder; list folders joined by ':'"
    ]
