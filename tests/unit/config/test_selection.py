"""What is selected is what runs."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from composing import composed, differing, flat

from ctrlrec.config.choices import PLUGINS
from ctrlrec.config.compose import compose, variants
from ctrlrec.config.files import choices_of, conf_directory
from ctrlrec.config.selection import check_selection, written
from ctrlrec.errors import CtrlRecError

CONF = conf_directory()
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in ("hydra", "experiment"))
FILES = [(group, choice) for group in GROUPS for choice in choices_of(group)]
MODELS, BUDGETS, VARIANTS = (list(choices_of(group)) for group in ("model", "budget", "variant"))

# Compositions as they were when model and budget were composed over every file, by what they depend on.
FROZEN = json.loads(Path(__file__).with_name("compositions.json").read_text(encoding="utf-8"))
# What has changed since on purpose: spec sections 3 and 6.
CHANGED = {"rl.item_count_min": 6}
MOVED = {f"teacher.{key}": f"teacher.options.{key}" for key in ("layers", "heads", "dropout")}
MOVED |= {"rl.list_weight": "reward.list_weight"}
CHANGED_BY_PAPER = {
    "rl.iterations": 3000,
    "rl.prompts": 8,
    "rl.samples_per_prompt": 2,
    "rl.ppo_epochs": 4,
    "rl.minibatches": 8,
}


def own_leaves(group: str, choice: str) -> dict[str, Any]:
    """Keys and values of a file alone, read without Hydra."""
    text = choices_of(group)[choice].read_text(encoding="utf-8")
    node = yaml.safe_load(text)
    node.pop("defaults", None)
    node.pop("hydra", None)
    if "@package _global_" not in text.splitlines()[0]:
        node = {group: node}

    def leaves(key: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            return {key: value}
        return {name: leaf for part, inner in value.items() for name, leaf in leaves(f"{key}.{part}", inner).items()}

    found = {name: leaf for key, value in node.items() for name, leaf in leaves(key, value).items()}
    return {name: leaf for name, leaf in found.items() if leaf not in ({}, "${teacher.embedding}")}


def plain(value: Any, teacher: str = "sasrec") -> Any:
    """Numbers as numbers: YAML 1.1 of Python reads 1.0e-3 so, but not 1e-3; and the teacher's name in its place."""
    if isinstance(value, list):
        return [plain(one, teacher) for one in value]
    if isinstance(value, str):
        return value.replace("${teacher.name}", teacher)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a file into a plug-in's conf folder."""
    monkeypatch.setenv(PLUGINS, str(tmp_path))

    def write(name: str, text: str) -> None:
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    return write


@pytest.mark.parametrize(("model", "budget"), product(MODELS, BUDGETS))
def test_compositions_of_variants_models_and_budgets_are_as_they_were(model: str, budget: str) -> None:
    if f"{model} {budget}" not in FROZEN["models and budgets"]:
        pytest.skip("a file of later")
    for variant in FROZEN["variants"]:
        now = flat(composed(f"variant={variant}", f"model={model}", f"budget={budget}"))
        before = FROZEN["full llama_mini demo"] | FROZEN["variants"][variant]
        before |= FROZEN["models and budgets"][f"{model} {budget}"]
        before |= CHANGED | (CHANGED_BY_PAPER if budget == "paper" else {})
        before = {MOVED.get(key, key): value for key, value in before.items() if key != "cache"}
        del before["variant.item_rewards"]  # now said by the weight, which is the row's own
        if variant == "v3":
            before |= {"reward.item_weight": 0.0, "variant.differs": ["reward.item_weight"]}
        assert {key: now[key] for key in before} == before
        for group, choice in (("model", model), ("budget", budget), ("variant", variant)):
            for key, value in own_leaves(group, choice).items():
                assert plain(now[key]) == plain(value), f"{group}={choice} {key}"


@pytest.mark.parametrize(("group", "choice"), FILES)
def test_every_leaf_of_a_selected_file_is_composed(group: str, choice: str) -> None:
    now = flat(composed(f"{group}={choice}"))
    budget = {key for file in written() if file.group == "budget" for key in file.keys}
    for key, value in own_leaves(group, choice).items():
        assert plain(now[key]) == plain(value) or (group not in ("budget", "variant") and key in budget), key


def test_no_two_files_of_different_groups_write_one_key_but_for_budgets_and_variants() -> None:
    """Overriding is a matter of two files, so this holds for every combination of files."""
    keys: dict[tuple[str, str], set[str]] = {}
    for group, choice in FILES:
        for file in written(f"{group}={choice}"):
            keys.setdefault((file.group, file.name), set()).update(file.keys)
    for model in MODELS:  # the tuned values of every model
        for file in written(f"model={model}"):
            keys.setdefault((file.group, file.name), set()).update(file.keys)
    assert {name for _, name in keys} >= {f"{group}/{choice}" for group, choice in FILES if own_leaves(group, choice)}
    for (group, name), (other, later) in product(keys, keys):
        if group != other and not {group, other} & {"budget", "variant"}:
            assert not keys[group, name] & keys[other, later], f"{name} and {later}"


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_budget_sets_exactly_what_its_header_names(budget: str) -> None:
    header = set(compose(f"budget={budget}").budget.sets)
    assert {key for key in own_leaves("budget", budget) if not key.startswith("budget.")} == header


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_variant_says_differs_from_full_does(name: str) -> None:
    models = ("model=llama_mini", "model=llama_nano")  # what differs may be tuned for a model
    changed = {key for model in models for key in differing(("variant=full", model), (f"variant={name}", model))}
    for said in variants()[name].differs:
        assert any(key == said or key.startswith(f"{said}.") for key in changed), said


def test_a_variant_wins_over_model_and_budget(plugin) -> None:
    plugin(
        "variant/slow",
        "# @package _global_\ndefaults: [full@_global_.variant, _self_]\n"
        "variant: {name: slow, description: full with a slow RL}\nrl: {learning_rate: 7.0e-7, iterations: 5}\n",
    )
    for model, budget in product(("llama_mini", "smollm2_135m"), BUDGETS):
        rl = compose("variant=slow", f"model={model}", f"budget={budget}").rl
        assert (rl.learning_rate, rl.iterations) == (7.0e-7, 5)
    assert compose("variant=slow", "rl.iterations=9").rl.iterations == 9


@pytest.mark.parametrize(
    ("group", "base", "key", "own", "tuned"),
    [
        ("rl", "released", "learning_rate", 7.0e-7, "prompts"),
        ("sl", "released", "learning_rate", 7.0e-4, "batch_size"),
        ("instructions", "paper", "chat_ratio", 0.25, None),
        ("teacher", "sasrec", "learning_rate", 7.0e-4, None),
        ("evaluation", "paper", "match_max_edits", 1, None),
    ],
)
def test_a_file_of_ones_own_keeps_its_values_and_takes_the_models_for_others(
    plugin, group: str, base: str, key: str, own: float, tuned: str | None
) -> None:
    plugin(f"{group}/mine", f"defaults: [{base}, _self_]\n{key}: {own}\n")
    now, default = flat(composed(f"{group}=mine")), flat(composed())
    assert now[f"{group}.{key}"] == own != default[f"{group}.{key}"]
    changed = {name for name in default if now[name] != default[name]}
    assert changed == {f"{group}.{key}"}
    if tuned:  # the model's: another model has another
        assert now[f"{group}.{tuned}"] != flat(composed(f"{group}=mine", "model=llama2_7b_chat"))[f"{group}.{tuned}"]
    compose(f"{group}=mine")


def test_values_of_a_model_may_be_chosen_for_another() -> None:
    assert compose("model=smollm2_135m", "rl/tuned@rl=llama_mini").rl.prompts == 32
    assert compose("rl=base").rl.prompts == 8


def test_a_file_that_would_override_a_chosen_one_is_refused(plugin) -> None:
    plugin("rl/mine", "defaults: [released, _self_]\nclip: 0.1\nlearning_rate: 7.0e-7\n")
    plugin("model/greedy", "# @package _global_\ndefaults: [llama_mini@_global_.model, _self_]\n"
           "model: {name: greedy}\nrl: {clip: 0.3}\nsl: {trainable: full}\n")  # fmt: skip
    with pytest.raises(CtrlRecError, match=r"rl=mine: its rl\.clip .* conf/model/greedy.*conf/rl/tuned/greedy\.yaml"):
        compose("rl=mine", "model=greedy")
    assert compose("rl=mine", "model=greedy", "rl.clip=0.2").rl.clip == 0.2
    compose("rl=mine")


@pytest.mark.parametrize(
    ("sets", "values", "said"),
    [
        ("[rl.iterations]", "rl: {iterations: 7, clip: 0.1}", r"rl\.clip is set and not listed"),
        ("[rl.iterations, rl.clip]", "rl: {iterations: 7}", r"rl\.clip is listed and not set"),
    ],
)
def test_a_budget_whose_header_is_wrong_is_refused(plugin, sets: str, values: str, said: str) -> None:
    plugin("budget/mine", f"# @package _global_\nbudget: {{name: mine, sets: {sets}}}\n{values}\n")
    with pytest.raises(CtrlRecError, match=f"budget/mine.*{said}"):
        compose("budget=mine")


def test_a_budget_may_override_the_keys_that_it_names(plugin) -> None:
    plugin("rl/mine", "defaults: [released, _self_]\niterations: 7\nclip: 0.1\n")
    rl = compose("rl=mine").rl
    assert (rl.iterations, rl.clip) == (12, 0.1)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_experiments_choose_and_override_nothing(name: str) -> None:
    check_selection([f"experiment={name}"])
    assert not [file for file in written(f"experiment={name}") if file.group == "experiment"]
